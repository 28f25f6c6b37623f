//! Look into folders as if they were a file system of their own: the build context, or an image's layers without a mount.
//!
//! Two things must hold whatever links lie in there: 1. nothing outside is reached, for a link `passwd -> /etc/passwd` in a context
//! means the context's file; 2. a path of the image means what it will mean in a container, through all layers, with what an upper
//! layer hides hidden. So links are followed here, one by one, from the top folder; and the kernel is asked only for paths that
//! have none (openat2(2) with `RESOLVE_NO_SYMLINKS`).
//!
//! Everything here only reads. See openat2(2), path_resolution(7); the kernel's overlayfs.rst for what hides what.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2};
use rustix::io::Errno;
use unionfs::whiteout;

/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// Folders that are read as one tree.
#[derive(Debug)]
pub struct Tree {
    /// Uppermost first.
    layers: Vec<OwnedFd>,
    /// What hides and is hidden: an image's layers; none for a plain folder.
    overlay: Option<Userxattr>,
}

type Userxattr = bool;

/// What stands under a path.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its attributes.
    pub stat: Stat,
    /// The layers that it lies in, the one that counts first. A directory can lie in several.
    layers: Vec<usize>,
}

/// Where a path leads when all links are followed.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// From the root of the tree, without links, `.` and `..`.
    pub path: PathBuf,
    /// What is there.
    pub found: Option<Found>,
}

impl Found {
    /// Its kind.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

impl Tree {
    /// One folder, such as the build context.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn folder(path: &Path) -> io::Result<Self> {
        Ok(Self { layers: vec![open_folder(path)?], overlay: None })
    }

    /// The layers of an image, lowest first; none for an empty image. `userxattr` as they were unpacked.
    ///
    /// # Errors
    /// Where one cannot be opened.
    pub fn image(layers: &[PathBuf], userxattr: bool) -> io::Result<Self> {
        let layers = layers.iter().rev().map(|path| open_folder(path)).collect::<io::Result<_>>()?;
        Ok(Self { layers, overlay: Some(userxattr) })
    }

    /// What stands under a path that has no links in it; a link at its end is not followed.
    ///
    /// # Errors
    /// Where a folder cannot be read.
    pub fn look(&self, path: &Path) -> io::Result<Option<Found>> {
        let mut shown: Vec<usize> = (0..self.layers.len()).collect();
        let Some(mut found) = self.first(&shown, Path::new("."))? else { return Ok(None) };
        let mut at = PathBuf::new();
        for part in path {
            at.push(part);
            match self.first(&shown, &at)? {
                Some(next) => found = next,
                None => return Ok(None),
            }
            shown.clone_from(&found.layers);
        }
        Ok(Some(found))
    }

    /// Looks for a path in some layers: the first that has it counts, and directories show what is in those below.
    fn first(&self, layers: &[usize], path: &Path) -> io::Result<Option<Found>> {
        let mut found: Option<Found> = None;
        for &layer in layers {
            let Some(fd) = self.at(layer, path, OFlags::PATH | OFlags::NOFOLLOW)? else { continue };
            let stat = rustix::fs::fstat(&fd)?;
            if self.overlay.is_some() && whiteout::is_whiteout(&stat) {
                break;
            }
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            match &mut found {
                None => found = Some(Found { stat, layers: vec![layer] }),
                Some(found) if directory => found.layers.push(layer),
                // Under a directory, what is none is hidden, with all that lies deeper.
                Some(_) => break,
            }
            if !directory || self.is_opaque(layer, path)? {
                break;
            }
        }
        Ok(found)
    }

    fn is_opaque(&self, layer: usize, path: &Path) -> io::Result<bool> {
        let Some(userxattr) = self.overlay.filter(|_| layer + 1 < self.layers.len()) else {
            return Ok(false);
        };
        let fd = self.at(layer, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(fd.is_some_and(|fd| whiteout::is_opaque(fd.as_fd(), userxattr)))
    }

    fn at(&self, layer: usize, path: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.layers[layer], path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Follows a path from the root, through all links. What is not there is taken as it is written.
    ///
    /// # Errors
    /// Where links lead to each other, or a folder cannot be read.
    pub fn resolve(&self, path: &Path) -> io::Result<Resolved> {
        let mut left = parts(path);
        let (mut at, mut links) = (PathBuf::new(), 0);
        while let Some(part) = left.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(part);
            match self.look(&next)? {
                Some(found) if found.kind() == FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = PathBuf::from(self.read_link(&next, &found)?);
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    for part in parts(&target).into_iter().rev() {
                        left.push_front(part);
                    }
                }
                _ => at = next,
            }
        }
        Ok(Resolved { found: self.look(&at)?, path: at })
    }

    /// The names in a directory.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn names(&self, path: &Path, found: &Found) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for &layer in &found.layers {
            let Some(fd) = self.at(layer, path, OFlags::RDONLY | OFlags::DIRECTORY)? else { continue };
            for entry in Dir::read_from(fd)? {
                let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
                if name != "." && name != ".." {
                    names.insert(name);
                }
            }
        }
        if self.overlay.is_some() {
            // A name may be that of a whiteout.
            let mut shown = BTreeSet::new();
            for name in names {
                if self.first(&found.layers, &path.join(&name))?.is_some() {
                    shown.insert(name);
                }
            }
            return Ok(shown);
        }
        Ok(names)
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// Where it cannot be opened, or has gone meanwhile.
    pub fn open(&self, path: &Path, found: &Found) -> io::Result<File> {
        // NONBLOCK: what was a file may be a FIFO by now, and would be waited for.
        let fd = self.at(found.layers[0], path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
        fd.map(File::from).ok_or_else(|| Errno::NOENT.into())
    }

    /// Where a link points to, as it is written.
    ///
    /// # Errors
    /// Where it is none any more.
    pub fn read_link(&self, path: &Path, found: &Found) -> io::Result<OsString> {
        let fd = self.at(found.layers[0], path, OFlags::PATH | OFlags::NOFOLLOW)?.ok_or(Errno::NOENT)?;
        let target = rustix::fs::readlinkat(fd, OsStr::new(""), Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// The text of a small file, such as `/etc/passwd`, with links followed; none where there is no such file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn text(&self, path: &Path) -> io::Result<Option<String>> {
        let resolved = self.resolve(path)?;
        let Some(found) = resolved.found.filter(|found| found.kind() == FileType::RegularFile) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        self.open(&resolved.path, &found)?.take(1 << 20).read_to_end(&mut text)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The parts of a path, without `/` and `.`.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(tree: &Tree, path: &str) -> Option<String> {
        tree.text(Path::new(path)).unwrap()
    }

    #[test]
    fn links_do_not_leave_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("context");
        fs::create_dir_all(root.join("etc/deep")).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        fs::write(root.join("etc/passwd"), "inner").unwrap();
        for (target, name) in [
            ("/etc/passwd", "absolute"),
            ("../../../../etc/passwd", "climbing"),
            ("../secret", "up"),
            ("etc", "folder"),
            ("loop", "loop"),
            ("/proc/self/root", "magic"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let tree = Tree::folder(&root).unwrap();
        for name in [
            "absolute",
            "climbing",
            "folder/passwd",
            "/folder/../etc/./passwd",
            "etc/deep/../../../etc/passwd",
        ] {
            assert_eq!(text(&tree, name).as_deref(), Some("inner"), "{name}");
        }
        assert_eq!(text(&tree, "up"), None);
        assert_eq!(text(&tree, "magic/etc/passwd"), None);
        assert!(tree.resolve(Path::new("loop")).is_err());
        assert_eq!(tree.resolve(Path::new("folder/new/../x")).unwrap().path, Path::new("etc/x"));
    }

    #[test]
    fn layers_are_read_as_overlay_shows_them() {
        let folder = tempfile::tempdir().unwrap();
        let layers = ["low", "mid", "top"].map(|name| folder.path().join(name));
        for (layer, files) in
            [(0, vec!["a/x", "a/y", "b/z", "c/deep/f", "d"]), (1, vec!["a/x", "d/in"]), (2, vec!["b"])]
        {
            for file in files {
                let path = layers[layer].join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{layer}")).unwrap();
            }
        }
        fs::create_dir_all(layers[2].join("c")).unwrap();
        let device = rustix::fs::makedev(0, 0);
        for path in ["a/y", "c/deep"] {
            fs::create_dir_all(layers[2].join(path).parent().unwrap()).unwrap();
            rustix::fs::mknodat(CWD, layers[2].join(path), FileType::CharacterDevice, Mode::empty(), device)
                .unwrap();
        }
        let tree = Tree::image(&layers, false).unwrap();
        assert_eq!(text(&tree, "a/x").as_deref(), Some("1"));
        assert_eq!(text(&tree, "a/y"), None);
        assert_eq!(text(&tree, "b").as_deref(), Some("2"));
        assert_eq!(text(&tree, "b/z"), None);
        assert_eq!(text(&tree, "c/deep/f"), None);
        assert_eq!(text(&tree, "d/in").as_deref(), Some("1"));
        let names = |path: &str| {
            let found = tree.look(Path::new(path)).unwrap().unwrap();
            tree.names(Path::new(path), &found).unwrap().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["a", "b", "c", "d"]);
        assert_eq!(names("a"), ["x"]);
        assert!(names("c").is_empty());
    }
}
