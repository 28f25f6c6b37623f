//! The container: chapters 1 to 3 around a root file system of layers.
//!
//! The overlay is mounted by the init process, in the container's own mount namespace: the host's mount table never holds it, and
//! it goes when the last process goes. In a user namespace the layers' files would be nobody's, for their ids are not mapped; so
//! the runtime process, which is root, hands each layer over as a mount that shows the files under the container's ids.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cgroups::{Cgroup, Entrance};
use namespaces::{Config, ExitStatus, Inside, Kind, Maps, Rootfs, StageError};
use namespaces::{container_mounts, foreground, new_root, plan, reaper, spawn, terminal};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use step::{StepError, step};
use unionfs::Overlay;

use crate::Result;
use crate::args::{Arguments, Run};
use crate::layers::{Layers, Upper};

/// What the init process is to mount.
struct Stack {
    overlay: Overlay,
    target: PathBuf,
    /// Mounts with mapped ids, and where they go before the overlay is made of them.
    handed_over: Vec<(OwnedFd, PathBuf)>,
}

/// Runs the command to its end.
pub(crate) fn run(args: &Arguments, layers: &Layers, upper: &Upper, cgroup: Option<&Cgroup>) -> Result<u8> {
    let directory = || cgroup.map_or(Ok(None), Cgroup::directory);
    let entrance = cgroup.map(Cgroup::entrance).transpose()?;
    let contain = |maps: &Maps| -> Result<ExitStatus> {
        let (mut config, inside, stack) = plan(args, layers, upper, maps)?;
        config.into_cgroup = directory()?;
        contain(&args.run, &config, inside, &stack, entrance.as_ref())
    };
    let cannot_map =
        |error: &(dyn std::error::Error + 'static)| error.downcast_ref().is_some_and(plan::cannot_map);
    let status = match contain(&Maps::for_this_user()) {
        Err(error) if cannot_map(&*error) => {
            eprintln!("note: {}", plan::CANNOT_MAP);
            contain(&Maps::identity())
        }
        other => other,
    };
    Ok(status?.code())
}

// ANCHOR: contain
fn contain(
    args: &Run,
    config: &Config,
    inside: Inside,
    stack: &Stack,
    entrance: Option<&Entrance>,
) -> Result<ExitStatus> {
    let created = spawn(config, |end| {
        entrance.map_or(Ok(()), Entrance::enter).map_err(StageError::at("cgroup"))?;
        stack.mount()?;
        inside.enter()?;
        let terminal = args.tty.then(|| end.open_terminal(terminal::size())).transpose()?;
        end.ready()?;
        end.wait_to_proceed()?;
        if args.no_init {
            return execute(&args.command, terminal);
        }
        reaper::run(end, || execute(&args.command, terminal))
    })?;
    Ok(foreground::run(created)?)
}
// ANCHOR_END: contain

fn plan(args: &Arguments, layers: &Layers, upper: &Upper, maps: &Maps) -> Result<(Config, Inside, Stack)> {
    let target = layers.mount_point("merged")?;
    let (mut config, mut inside) =
        plan::container(&target, &args.run.share, args.run.hostname.as_deref(), &Maps::default())?;
    inside.rootfs = Rootfs::Mounted(target.clone());
    let user = config.new.contains(&Kind::User);
    let mut stack = Stack {
        overlay: Overlay {
            lower: layers.lower.clone(),
            upper: upper.upper.clone(),
            work: upper.work.clone(),
            userxattr: user,
            volatile: upper.temporary,
            index: args.stack.index,
        },
        target,
        handed_over: Vec::new(),
    };
    if user {
        inside.mounts = container_mounts(&config.new, maps.has_tty_group());
        (config.uid_map, config.gid_map) = (maps.uid.clone(), maps.gid.clone());
        if maps.shifted() && nix::unistd::geteuid().is_root() {
            config.mapped_mounts = stack.hand_over(layers)?;
        }
    }
    Ok((config, inside, stack))
}

impl Stack {
    /// Detaches a mount of each layer, and one of the folder in which upper and work lie, for they must be on one mount. Gives
    /// what is to be mapped.
    // ANCHOR: hand_over
    fn hand_over(&mut self, layers: &Layers) -> Result<Vec<OwnedFd>> {
        let mut mapped = Vec::new();
        let mut hand_over = |source: &Path, name: &str| -> Result<PathBuf> {
            let mount = new_root::detached(source)?;
            mapped.push(mount.try_clone()?);
            let target = layers.mount_point(name)?;
            self.handed_over.push((mount, target.clone()));
            Ok(target)
        };
        for (number, layer) in self.overlay.lower.iter_mut().enumerate() {
            *layer = hand_over(layer, &format!("mapped{number}"))?;
        }
        let folder = hand_over(self.overlay.upper.parent().unwrap_or(Path::new("/")), "mapped-upper")?;
        for path in [&mut self.overlay.upper, &mut self.overlay.work] {
            *path = folder.join(path.file_name().unwrap_or_default());
        }
        Ok(mapped)
    }
    // ANCHOR_END: hand_over

    /// Called by the init process, before the new root is entered.
    fn mount(&self) -> std::result::Result<(), StageError> {
        namespaces::inside::private()?;
        for (mount, target) in &self.handed_over {
            attach(mount, target)?;
        }
        self.overlay
            .mount(&self.target)
            .map_err(|error| StageError::new("overlay", &error, error.exit_code()))
    }
}

fn attach(mount: &OwnedFd, target: &Path) -> std::result::Result<(), StepError> {
    step("move_mount", format_args!("{}", target.display()), "a layer whose files are root's inside")
        .run(|| move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))
}

fn execute(command: &[OsString], terminal: Option<OwnedFd>) -> std::result::Result<Infallible, StageError> {
    if let Some(terminal) = terminal {
        terminal::control(terminal)?;
    }
    let mut command = chroot::Command::new(command);
    command.env.push("container=sampan".into());
    command.exec().map_err(|error| StageError::new("exec", &error, error.exit_code()))
}
