//! The files that a new volume begins with: those which the image has at its place.
//!
//! An empty volume takes over the image's folder at its destination when the first container with it starts, with owners, modes,
//! links and attributes, and the folder's own owner and mode, as Docker does it: a database image finds its folder as it was
//! made. A volume that holds anything is left as it is.
//!
//! What the image has at a path is the kernel's to say, with all whiteouts and links of the layers: so they are mounted, in a
//! mount namespace that ends with the copying. 1. The image is hostile: its path is resolved with the image's root as `/`
//! (openat2(2), RESOLVE_IN_ROOT), and below it no link is followed; packing and unpacking are chapters 4's and 1's. 2. An ordinary
//! user's files are owned by the user's other ids: it is done in a user namespace of the same ids. 3. A copy that is cut off must
//! not look like a volume in use: it is made beside the volume's folder, and moved into it.
//!
//! See openat2(2), overlayfs(5), mount_namespaces(7). Not covered: sockets, which are nothing without their process.

use std::fs::{self, File};
use std::io::{BufReader, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use namespaces::{Kind, StageError};
use nix::unistd::geteuid;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use step::{StepError, step};
use unionfs::Overlay;

use crate::container::MountPoint;
use crate::store::Lock;
use crate::{Error, paths};

/// Fills the volumes among `mounts` that are empty with what the image has at their places. `overlay` is the container's root
/// file system, which is not mounted yet.
///
/// # Errors
/// The step that failed; the volume is as empty as before then.
pub(crate) fn fill(mounts: &[MountPoint], overlay: &Overlay, rootfs: &Path) -> Result<(), Error> {
    for mount in mounts.iter().filter(|mount| mount.volume.is_some() && mount.copy) {
        let Some(folder) = mount.source.parent() else { continue };
        // Two containers may begin with one volume at once.
        let _lock = Lock::of(folder)?;
        let is_empty = fs::read_dir(&mount.source).map(|mut entries| entries.next().is_none());
        if is_empty.map_err(|source| Error::Store { path: mount.source.clone(), source })? {
            copy(mount, overlay, rootfs, &folder.join("_new"))?;
        }
    }
    Ok(())
}

/// In namespaces of its own, from which no mount gets out.
fn copy(mount: &MountPoint, overlay: &Overlay, rootfs: &Path, staging: &Path) -> Result<(), Error> {
    // Of a copy that was killed.
    paths::remove_tree(staging)?;
    let rootless = !geteuid().is_root();
    let mut config = namespaces::Config { new: vec![Kind::Mount], ..Default::default() };
    if rootless {
        let maps = namespaces::Maps::for_this_user();
        config.new.push(Kind::User);
        (config.uid_map, config.gid_map) = (maps.uid, maps.gid);
    }
    // It is mounted once more later, which a volatile one cannot be.
    let overlay = Overlay { volatile: false, ..overlay.clone() };
    let created = namespaces::spawn(&config, |_| {
        namespaces::inside::private()?;
        overlay.mount(rootfs).map_err(|error| failed("mount the image", &error))?;
        if let Some(from) = image_folder(rootfs, &mount.destination)? {
            take_over(&from, staging, &mount.source)?;
        }
        // It has nothing to exec: its end is its answer.
        std::process::exit(0)
    })?;
    created.proceed()?.wait()?;
    Ok(())
}

/// The image's folder at `path`; none where there is nothing, or no folder.
fn image_folder(root: &Path, path: &Path) -> Result<Option<OwnedFd>, StepError> {
    let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory | OFlags::PATH, Mode::empty())
        .map_err(|errno| StepError::new("open", root.display(), errno))?;
    match rustix::fs::openat2(&root, path, directory, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(StepError::new("openat2 RESOLVE_IN_ROOT", path.display(), errno)),
    }
}

/// Copies `from` to `staging`, and moves what is there into the volume.
fn take_over(from: &OwnedFd, staging: &Path, volume: &Path) -> Result<(), StageError> {
    step("mkdir", format_args!("{}", staging.display()), "half a copy is no volume")
        .run(|| fs::create_dir(staging))?;
    let from = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
    let archive = step("open", format_args!("O_TMPFILE"), "the folder as an archive, nameless")
        .run(|| tempfile::tempfile_in(staging))?;
    unionfs::write_diff(&from, false, &[], &archive)
        .map_err(|error| failed("pack the image's folder", &error))?;
    let archive = rewound(archive).map_err(|error| StepError::new("lseek", "the archive", error))?;
    let how = chroot::Unpack { as_root: true, devices: true };
    chroot::unpack::unpack_into(BufReader::new(archive), staging, &how, &mut |_, _| Ok(false))
        .map_err(|error| failed("unpack it into the volume", &error))?;
    let entries =
        fs::read_dir(staging).map_err(|error| StepError::new("readdir", staging.display(), error))?;
    for entry in entries.flatten() {
        let to = volume.join(entry.file_name());
        step("rename", format_args!("{}", to.display()), "into the volume, whole")
            .run(|| fs::rename(entry.path(), &to))?;
    }
    let stat =
        rustix::fs::stat(&from).map_err(|errno| StepError::new("stat", "the image's folder", errno))?;
    step("chown", format_args!("{}:{}", stat.st_uid, stat.st_gid), "the folder is whose it is in the image")
        .run(|| std::os::unix::fs::chown(volume, Some(stat.st_uid), Some(stat.st_gid)))?;
    step("chmod", format_args!("{:o}", stat.st_mode & 0o7777), "as in the image")
        .run(|| rustix::fs::chmod(volume, Mode::from_raw_mode(stat.st_mode)))?;
    step("rmdir", format_args!("{}", staging.display()), "it is empty now")
        .run(|| fs::remove_dir(staging))?;
    Ok(())
}

fn rewound(mut file: File) -> std::io::Result<File> {
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn failed(stage: &'static str, error: &(dyn std::error::Error + 'static)) -> StageError {
    StageError::new(stage, error, 125)
}
