//! What a test stands in: namespaces of its own, and folders that nobody else sees.
//!
//! The process that runs one test makes these first, while it has one thread, for unshare(2) acts on a thread alone:
//!
//! 1. private mount, network, uts and ipc namespaces, all mounts private, loopback up;
//! 2. a tmpfs on `/run`, with `TMPDIR`, homes and `XDG_RUNTIME_DIR` in it; or a folder of its own in that which `KIT_RUN`
//!    names, for a kernel whose tmpfs cannot do all that a disk can (its `user` attributes are from Linux 6.6);
//! 3. an overlay on `/etc`, with an ordinary user in it who has subordinate ids;
//! 4. a tmpfs on `/var/lib/sampan`;
//! 5. `/dev/net/tun` for everybody, as distributions have it.
//!
//! The pid namespace stays the host's, so that owners' process ids mean the same to every program. An ordinary user who runs
//! the tests gets none of this: only the tests for ordinary users run then, and they can harm nobody.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{getegid, geteuid};

use crate::kernel;
use crate::tree;

/// The ordinary user of the tests.
pub const USER: (u32, u32) = (12345, 12345);
/// The user's name.
pub const USER_NAME: &str = "learner";

/// The folders of one test.
#[derive(Debug, Clone)]
pub struct Place {
    /// The built binaries.
    pub bin: PathBuf,
    /// What `cargo kit setup` made.
    pub kit: PathBuf,
    /// The repository.
    pub repository: PathBuf,
    /// Scratch space, reachable for every user.
    pub scratch: PathBuf,
}

/// The folders as they are on the host.
///
/// # Errors
/// Where this program cannot find itself.
pub fn host_place() -> io::Result<Place> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned();
    let beside = || Ok::<_, io::Error>(std::env::current_exe()?.ancestors().nth(2).map(Path::to_owned));
    let bin = match variable("KIT_BIN") {
        Some(bin) => fs::canonicalize(bin)?,
        None => beside()?.unwrap_or_default(),
    };
    let kit = variable("KIT_DIR").unwrap_or_else(|| repository.join("target/kit"));
    Ok(Place { bin, kit, repository, scratch: std::env::temp_dir() })
}

/// Moves this process, which must have one thread, into its private place.
///
/// # Errors
/// The first thing that cannot be made, by name.
pub fn enter() -> io::Result<Place> {
    let host = host_place()?;
    if !geteuid().is_root() {
        return Ok(host);
    }
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .map_err(|errno| {
        io::Error::other(format!(
            "unshare: {errno}: a test needs namespaces of its own, and for these CAP_SYS_ADMIN"
        ))
    })?;
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    kernel::loopback_up()?;
    let run = Path::new("/run");
    // Before /run is covered, for they may lie under it.
    let sources = [open(&host.bin)?, open(&host.repository)?, fs::File::open(&host.kit).ok()];
    fs::create_dir_all(run)?;
    private(run, 0o755)?;
    let place = Place {
        bin: run.join("test/bin"),
        repository: run.join("test/repository"),
        kit: run.join("test/kit"),
        scratch: run.join("tmp"),
    };
    for (source, target) in sources.iter().zip([&place.bin, &place.repository, &place.kit]) {
        fs::create_dir_all(target)?;
        if let Some(source) = source {
            use std::os::fd::AsRawFd;
            let source = format!("/proc/self/fd/{}", source.as_raw_fd());
            mount_at(Some(&source), target, None, MsFlags::MS_BIND | MsFlags::MS_REC, "")?;
        }
    }
    directory(&place.scratch, 0o1777, None)?;
    directory(Path::new("/run/home/root"), 0o700, None)?;
    directory(&Path::new("/run/home").join(USER_NAME), 0o700, Some(USER))?;
    directory(&PathBuf::from(format!("/run/user/{}", USER.0)), 0o700, Some(USER))?;
    directory(Path::new("/run/user/0"), 0o700, None)?;
    cover(Path::new("/etc"))?;
    users()?;
    cover(Path::new("/var/lib"))?;
    fs::create_dir_all("/var/lib/sampan")?;
    private(Path::new("/var/lib/sampan"), 0o700)?;
    tun()?;
    Ok(place)
}

/// The folder on a disk that this test may fill, in that which `KIT_RUN` names. The runner removes it.
pub(crate) fn folder_of(pid: u32) -> Option<PathBuf> {
    std::env::var_os("KIT_RUN").map(|folder| Path::new(&folder).join(format!("test-{pid}")))
}

/// Covers a folder with an empty one: a tmpfs, or, where `KIT_RUN` says so, one on a disk.
fn private(target: &Path, mode: u32) -> io::Result<()> {
    let Some(folder) = folder_of(std::process::id()) else {
        return mount_at(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), &format!("mode={mode:o}"));
    };
    let folder = folder.join(target.to_string_lossy().replace('/', "-"));
    directory(&folder, mode, None)?;
    mount_at(Some(&folder.to_string_lossy()), target, None, MsFlags::MS_BIND, "")
}

fn open(path: &Path) -> io::Result<Option<fs::File>> {
    fs::File::open(path).map(Some).map_err(|error| named(&error, path))
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// mount(2), with its target in the error.
///
/// # Errors
/// As mount(2).
pub fn mount_at(
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: &str,
) -> io::Result<()> {
    mount(source, target, kind, flags, Some(data)).map_err(|errno| named(&errno.into(), target))
}

fn directory(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    owner.map_or(Ok(()), |(user, group)| tree::give(path, user, group))
}

/// Lays an overlay over a folder of the host: what the test writes there goes to the tmpfs on `/run`.
///
/// # Errors
/// As mount(2).
pub fn cover(folder: &Path) -> io::Result<()> {
    let folder = folder.to_string_lossy();
    let layers = PathBuf::from(format!("/run/test/cover{}", folder.replace('/', "-")));
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    directory(&upper, 0o755, None)?;
    directory(&work, 0o755, None)?;
    let data = format!("lowerdir={folder},upperdir={},workdir={}", upper.display(), work.display());
    mount_at(Some("overlay"), Path::new(&*folder), Some("overlay"), MsFlags::empty(), &data)
}

/// Adds the ordinary user, with 65536 subordinate ids. See subuid(5).
fn users() -> io::Result<()> {
    let (user, group) = USER;
    let append = |file: &str, line: String| {
        let old = fs::read_to_string(file).unwrap_or_default();
        fs::write(file, format!("{}\n{line}\n", old.trim_end()))
    };
    append("/etc/passwd", format!("{USER_NAME}:x:{user}:{group}:Test user:/run/home/{USER_NAME}:/bin/sh"))?;
    append("/etc/group", format!("{USER_NAME}:x:{group}:"))?;
    fs::write("/etc/subuid", format!("{USER_NAME}:200000:65536\n"))?;
    fs::write("/etc/subgid", format!("{USER_NAME}:200000:65536\n"))
}

/// `/dev/net/tun` with mode 0666, where the host has the device at all.
fn tun() -> io::Result<()> {
    let (real, ours) = (Path::new("/dev/net/tun"), Path::new("/run/test/tun"));
    if real.exists() {
        mknod(ours, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200))?;
        fs::set_permissions(ours, fs::Permissions::from_mode(0o666))?;
        mount_at(Some("/run/test/tun"), real, None, MsFlags::MS_BIND, "")?;
    }
    Ok(())
}

/// Who runs this process: user and group.
pub fn ourselves() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}
