//! What a container is made of, put together before anything of the kernel is touched.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use oci_spec::OciSpecError;
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount, MountBuilder, Spec, UserBuilder};
use sampan_runtime::Defaults;
use step::step;
use unionfs::Overlay;

use super::limits;
use crate::container::{Config, Container};
use crate::network::Plan;
use crate::store::write_json;
use crate::{Engine, Error, network, user, volume_files};

/// All that [`sampan_runtime::create()`] needs.
#[derive(Debug)]
pub struct Prepared {
    /// The OCI configuration, as `bundle/config.json` has it.
    pub spec: Spec,
    /// The bundle.
    pub bundle: PathBuf,
    /// The root file system: the image's layers and the container's own.
    pub overlay: Overlay,
    /// Its network.
    pub network: Plan,
}

impl Prepared {
    /// Puts it together.
    ///
    /// # Errors
    /// Where the image is gone, the user is not in it, or a port or an address is not free.
    pub fn new(engine: &Engine, container: &Container) -> Result<Self, Error> {
        step::heading("2. get the image's layers");
        let image = engine.images().resolve(&container.config.image_id)?;
        let layers = engine.layer_dirs(&image)?;
        let prepared = Self::on_layers(engine, &container.config, &container.folder, layers)?;
        volume_files::fill(&container.config.mounts, &prepared.overlay, &prepared.bundle.join("rootfs"))?;
        Ok(prepared)
    }

    /// The same on given layers, lowest first, with the container's own layer in `folder`.
    ///
    /// # Errors
    /// As for [`Prepared::new`].
    pub fn on_layers(
        engine: &Engine,
        config: &Config,
        folder: &Path,
        layers: Vec<PathBuf>,
    ) -> Result<Self, Error> {
        let user = user::resolve(&layers, &config.user)?;
        step::heading("3. an address on the network");
        let network = network::plan(engine, config)?;
        step::heading("4. a file system with a writable layer on top");
        let bundle = folder.join("bundle");
        let rootfs = bundle.join("rootfs");
        let overlay = Overlay {
            lower: layers,
            upper: folder.join("upper"),
            work: folder.join("work"),
            userxattr: engine.images().userxattr(),
            index: false,
            // What is removed at its end need not survive a crash of the machine.
            volatile: config.auto_remove,
        };
        for folder in [&rootfs, &overlay.upper, &overlay.work] {
            if !folder.is_dir() {
                step(
                    "mkdir",
                    format_args!("{}", folder.display()),
                    "for the container's own layer, and where it is mounted",
                )
                .run(|| fs::create_dir_all(folder))?;
            }
        }
        let mut mounts = engine_files(folder, config, &network)?;
        mounts.extend(
            config
                .mounts
                .iter()
                .map(|mount| bind(&mount.source, &mount.destination, mount.read_only))
                .collect::<Result<Vec<_>, _>>()?,
        );
        let spec = spec(config, &user, &network, mounts, &rootfs)?;
        write_json(&bundle.join("config.json"), &spec, crate::store::Durability::Cache)?;
        Ok(Self { spec, bundle, overlay, network })
    }
}

fn spec(
    config: &Config,
    user: &user::User,
    network: &Plan,
    mounts: Vec<Mount>,
    rootfs: &Path,
) -> Result<Spec, Error> {
    let mut env = config.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    if !env.iter().any(|entry| entry.starts_with("HOSTNAME=")) {
        env.push(format!("HOSTNAME={}", config.hostname));
    }
    // How programs, and `cargo kit leaks`, know a process of ours.
    env.push("container=sampan".to_owned());
    let (uid_mappings, gid_mappings) = if geteuid().is_root() { (vec![], vec![]) } else { id_mappings()? };
    let defaults = Defaults {
        id: config.id.clone(),
        args: config.args.clone(),
        env,
        cwd: config.working_dir.clone(),
        user: UserBuilder::default()
            .uid(user.uid)
            .gid(user.gid)
            .additional_gids(user.additional_gids.clone())
            .build()
            .map_err(invalid)?,
        terminal: config.terminal,
        hostname: Some(config.hostname.clone()),
        network: network.namespace(),
        mounts,
        resources: Some(limits::resources(config)?),
        rlimits: limits::rlimits(config)?,
        oom_score_adj: config.limits.oom_score_adj,
        uid_mappings,
        gid_mappings,
        ..Defaults::default()
    };
    let mut spec = defaults.spec();
    if let Some(linux) = spec.linux_mut() {
        limits::add(config, linux)?;
    }
    if let Some(root) = spec.root_mut() {
        root.set_path(rootfs.to_owned());
    }
    Ok(spec)
}

/// The files that every container gets from the engine and that the image must not decide: name, names, name servers.
fn engine_files(folder: &Path, config: &Config, network: &Plan) -> Result<Vec<Mount>, Error> {
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if let Some(address) = network.address() {
        hosts.push_str(&format!("{address}\t{}\n", config.hostname));
    }
    let resolv_conf = network.resolv_conf(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let files =
        [("hostname", format!("{}\n", config.hostname)), ("hosts", hosts), ("resolv.conf", resolv_conf)];
    let mut mounts = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        step(
            "write",
            format_args!("{}", path.display()),
            "the container's own, whatever the image has in /etc",
        )
        .run(|| fs::write(&path, text))?;
        mounts.push(bind(&path, &Path::new("/etc").join(name), false)?);
    }
    Ok(mounts)
}

fn bind(source: &Path, destination: &Path, read_only: bool) -> Result<Mount, Error> {
    let options = ["rbind", "rprivate", if read_only { "rro" } else { "rw" }].map(str::to_owned).to_vec();
    MountBuilder::default()
        .destination(destination)
        .source(source)
        .typ("bind")
        .options(options)
        .build()
        .map_err(invalid)
}

fn id_mappings() -> Result<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>), Error> {
    let maps = namespaces::Maps::for_this_user();
    let translate = |maps: &[namespaces::IdMap]| {
        let map = |map: &namespaces::IdMap| {
            LinuxIdMappingBuilder::default()
                .container_id(map.inside)
                .host_id(map.outside)
                .size(map.count)
                .build()
                .map_err(invalid)
        };
        maps.iter().map(map).collect::<Result<Vec<_>, _>>()
    };
    Ok((translate(&maps.uid)?, translate(&maps.gid)?))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn invalid(error: OciSpecError) -> Error {
    Error::Invalid(format!("the container's configuration cannot be: {error}"))
}

/// Removes the cgroup that a killed shim left.
pub(crate) fn remove_cgroup(config: &Config) -> Result<(), Error> {
    let hierarchies = match cgroups::Hierarchies::find(Path::new("/proc/self")) {
        Err(cgroups::Error::NoHierarchy) => return Ok(()),
        other => other?,
    };
    match cgroups::Cgroup::open_at(&hierarchies, &config.cgroup()) {
        Ok(cgroup) => Ok(cgroup.remove()?),
        Err(cgroups::Error::NoSuchCgroup(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
