//! The container's own files on the host: `/etc/resolv.conf` and `/etc/hosts`, and the folder of its writable layer.
//!
//! They are never written into the root file system, which other containers may share, but bound over its files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process;

use namespaces::mounts::{More, Mount, MountAttrFlags, Source};
use namespaces::{Config, Kind, Maps, StageError, plan, spawn};
use network::resolv;
use nix::unistd::geteuid;
use step::{StepError, step};
use tempfile::TempDir;
use unionfs::Overlay;

use crate::Result;
use crate::args::Args;
use crate::mode::Network;

/// The files and the directory that holds them.
pub(crate) struct Files {
    directory: TempDir,
    bound: Vec<(PathBuf, &'static str)>,
    layers: Vec<PathBuf>,
}

impl Files {
    pub(crate) fn make(args: &Args, network: &Network) -> Result<Self> {
        let prefix = format!("sampan-{}-", process::id());
        let directory = step("mkdtemp", format_args!("{prefix}"), "for what is this container's alone")
            .run(|| tempfile::Builder::new().prefix(&prefix).tempdir())?;
        let path = directory.path().to_owned();
        // The container's root may be another user of the host, who must get through to what is in it.
        fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        let mut files = Self { directory, bound: Vec::new(), layers: Vec::new() };
        let name = args.hostname.as_deref().unwrap_or(plan::HOSTNAME);
        let resolv_conf = match network.name_server() {
            Some(server) => format!("nameserver {server}\n"),
            None if network.is_own() => network::resolv_conf(&resolv::host_text()),
            None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        };
        files.write(args, "/etc/resolv.conf", &resolv_conf)?;
        files.write(args, "/etc/hosts", &resolv::hosts(name, network.address()))?;
        if !args.layer.is_empty() {
            files.layers = [std::slice::from_ref(&args.rootfs), &args.layer[..]].concat();
            for name in ["upper", "work"] {
                fs::create_dir(path.join(name))?;
            }
            // The merged root is as the upper directory is.
            fs::set_permissions(path.join("upper"), Permissions::from_mode(0o755))?;
        }
        Ok(files)
    }

    fn write(&mut self, args: &Args, target: &'static str, text: &str) -> Result<()> {
        let there =
            |root: &PathBuf| fs::symlink_metadata(root.join(&target[1..])).is_ok_and(|file| file.is_file());
        // Where it is missing, a mount would first have to make it, in everybody's root file system.
        if !there(&args.rootfs) && !args.layer.iter().any(there) {
            return Ok(());
        }
        let path = self.path().join(Path::new(target).file_name().unwrap_or_default());
        let root = Maps::for_this_user().uid.iter().find(|map| map.inside == 0).map(|map| map.outside);
        step("write", format_args!("{}", path.display()), "bound over the file of the root file system")
            .run(|| {
                fs::write(&path, text)?;
                fs::set_permissions(&path, Permissions::from_mode(0o644))?;
                // So that root inside may change it.
                match root {
                    Some(root) if geteuid().is_root() => chown(&path, Some(root), Some(root)),
                    _ => Ok(()),
                }
            })?;
        self.bound.push((path, target));
        Ok(())
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The mounts that put the files into place.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = Mount> {
        self.bound.iter().map(|(path, target)| Mount {
            source: Source::Bind { path: path.clone(), recursive: false },
            target: PathBuf::from(target),
            flags: MountAttrFlags::empty(),
            why: "this container's own names and servers, and nobody else's file changed",
            more: More::default(),
        })
    }

    /// The overlay that the container's root is to be, if there are layers.
    pub(crate) fn overlay(&self) -> Option<Overlay> {
        (!self.layers.is_empty()).then(|| Overlay {
            lower: self.layers.clone(),
            upper: self.path().join("upper"),
            work: self.path().join("work"),
            userxattr: true,
            volatile: true,
            ..Overlay::default()
        })
    }

    /// An empty directory to mount on.
    pub(crate) fn mount_point(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Removes the directory. What was written over layers belongs to ids that an ordinary user has inside a user namespace alone.
    pub(crate) fn remove(self) -> Result<()> {
        let path = self.directory.keep();
        let remove = || {
            step("rm -r", format_args!("{}", path.display()), "what was written here goes with the container")
                .run(|| fs::remove_dir_all(&path))
        };
        if self.layers.is_empty() || geteuid().is_root() {
            return remove().map_err(StepError::into);
        }
        let maps = Maps::for_this_user();
        let config =
            Config { new: vec![Kind::User], uid_map: maps.uid, gid_map: maps.gid, ..Config::default() };
        let created = spawn(&config, |end| {
            end.wait_to_proceed()?;
            remove().map_err(StageError::at("files"))?;
            process::exit(0)
        })?;
        match created.proceed()?.wait()?.code() {
            0 => Ok(()),
            code => Err(format!("the process that removes {path:?} ended with status {code}").into()),
        }
    }
}
