//! The root file system: what is in it, as data, and how that becomes a folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::Programs;

/// Every file is as old as every other, so that the same contents make the same archive: the first of January 2024.
pub(crate) const TIME: u64 = 1_704_067_200;

/// A file of the tree.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative to the root, without a dot in front.
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Directory,
    Text(String),
    /// A copy of a program, without the symbols that only a debugger reads.
    Program(PathBuf),
    /// A copy of a file as it is.
    Copy(PathBuf),
    /// Another name of an earlier entry.
    HardLink(String),
    SymbolicLink(&'static str),
}

const DIRECTORIES: [(&str, u32); 19] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("kit", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/share", 0o755),
    ("var", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

/// One folder with all programs is enough; the usual paths lead to it.
const LINKS: [(&str, &str); 3] = [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin")];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
mail:x:8:
www-data:x:33:
users:x:100:
nobody:x:65534:
";

/// What the root file system holds. Parents come before children, and a file before its other names.
pub(crate) fn plan(applets: &[String], version: &str, busybox: &Path, programs: &Programs) -> Vec<Entry> {
    let os_release = format!(
        "NAME=\"BusyBox\"\nID=busybox\nVERSION_ID=\"{version}\"\nPRETTY_NAME=\"BusyBox {version} (Sampan)\"\n"
    );
    let shadow: String =
        PASSWD.lines().filter_map(|line| line.split(':').next()).fold(String::new(), |mut all, name| {
            let _ = writeln!(all, "{name}:*:19723:0:99999:7:::");
            all
        });
    let texts = [
        ("etc/group", 0o644, GROUP.to_owned()),
        ("etc/hostname", 0o644, "sampan\n".to_owned()),
        ("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned()),
        ("etc/os-release", 0o644, os_release),
        ("etc/passwd", 0o644, PASSWD.to_owned()),
        ("etc/resolv.conf", 0o644, String::new()),
        ("etc/shadow", 0o600, shadow),
    ];
    let entry = |path: &str, mode, kind| (path.to_owned(), Entry { path: path.to_owned(), mode, kind });
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    entries.extend(DIRECTORIES.map(|(path, mode)| entry(path, mode, Kind::Directory)));
    entries.extend(LINKS.map(|(path, target)| entry(path, 0o777, Kind::SymbolicLink(target))));
    entries.extend(texts.map(|(path, mode, text)| entry(path, mode, Kind::Text(text))));
    let program =
        |(name, path): (&str, &Path)| entry(&format!("kit/{name}"), 0o755, Kind::Program(path.to_owned()));
    entries.extend(programs.inside().map(program));
    entries.extend(
        applets
            .iter()
            .map(|name| entry(&format!("bin/{name}"), 0o755, Kind::HardLink("bin/busybox".to_owned()))),
    );
    entries.extend([entry("bin/busybox", 0o755, Kind::Copy(busybox.to_owned()))]);
    let (links, mut plan): (Vec<Entry>, Vec<Entry>) =
        entries.into_values().partition(|entry| matches!(entry.kind, Kind::HardLink(_)));
    plan.extend(links);
    plan
}

/// What the tree was made from: if this text is the same, so is the tree.
pub(crate) fn stamp(plan: &[Entry]) -> Result<String> {
    let mut text = String::new();
    for entry in plan {
        write!(text, "{} {:o} ", entry.path, entry.mode)?;
        match &entry.kind {
            Kind::Directory => writeln!(text, "directory")?,
            Kind::Text(content) => writeln!(text, "{content:?}")?,
            Kind::HardLink(target) => writeln!(text, "= {target}")?,
            Kind::SymbolicLink(target) => writeln!(text, "-> {target}")?,
            Kind::Program(source) | Kind::Copy(source) => {
                let data = fs::metadata(source)?;
                writeln!(text, "{} {} {}.{}", source.display(), data.len(), data.mtime(), data.mtime_nsec())?;
            }
        }
    }
    Ok(text)
}

/// Whether each file of the plan is there, of its kind and mode. What a reader has added is theirs.
pub(crate) fn is_there(root: &Path, plan: &[Entry]) -> bool {
    let inode = |path: &Path| fs::symlink_metadata(path).map(|data| data.ino()).ok();
    plan.iter().all(|entry| {
        let path = root.join(&entry.path);
        let Ok(data) = fs::symlink_metadata(&path) else { return false };
        let right = match &entry.kind {
            Kind::Directory => data.is_dir(),
            Kind::Text(text) => fs::read(&path).is_ok_and(|content| content == text.as_bytes()),
            Kind::SymbolicLink(target) => {
                return fs::read_link(&path).is_ok_and(|link| link == Path::new(target));
            }
            Kind::HardLink(target) => inode(&root.join(target)) == Some(data.ino()),
            Kind::Program(_) | Kind::Copy(_) => data.is_file() && data.len() > 0,
        };
        right && data.mode() & 0o7777 == entry.mode
    })
}

/// Makes the tree in a new folder.
pub(crate) fn make(root: &Path, plan: &[Entry]) -> io::Result<()> {
    fs::create_dir(root)?;
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    for entry in plan {
        let path = root.join(&entry.path);
        match &entry.kind {
            Kind::Directory => fs::create_dir(&path)?,
            Kind::Text(text) => fs::write(&path, text)?,
            Kind::Copy(source) => drop(fs::copy(source, &path)?),
            Kind::Program(source) => copy_stripped(source, &path)?,
            Kind::HardLink(target) => {
                fs::hard_link(root.join(target), &path)?;
                continue;
            }
            Kind::SymbolicLink(target) => {
                symlink(target, &path)?;
                continue;
            }
        }
        fs::set_permissions(&path, Permissions::from_mode(entry.mode))?;
    }
    // Last, since each new file makes its folder younger.
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(TIME);
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    for entry in plan.iter().filter(|entry| !matches!(entry.kind, Kind::SymbolicLink(_) | Kind::HardLink(_)))
    {
        File::open(root.join(&entry.path))?.set_times(times)?;
    }
    Ok(())
}

/// Debugging symbols are nine tenths of a program that was just built. Where binutils has no `strip`, the copy is larger.
fn copy_stripped(source: &Path, target: &Path) -> io::Result<()> {
    let strip = Command::new("strip").arg("-o").args([target, source]).stderr(Stdio::null()).status();
    if !strip.is_ok_and(|status| status.success()) {
        fs::copy(source, target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(folder: &Path) -> Vec<Entry> {
        let busybox = folder.join("source");
        fs::write(&busybox, "busybox").unwrap();
        plan(&["[".into(), "sh".into()], "1.2.3", &busybox, &Programs::default())
    }

    #[test]
    fn a_tree_that_was_made_is_there_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let plan = sample(folder.path());
        let root = folder.path().join("root");
        make(&root, &plan).unwrap();
        assert!(is_there(&root, &plan));
        assert_eq!(fs::metadata(root.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(
            fs::metadata(root.join("usr/sbin/sh")).unwrap().ino(),
            fs::metadata(root.join("bin/busybox")).unwrap().ino()
        );
        fs::write(root.join("home/mine"), "kept").unwrap();
        assert!(is_there(&root, &plan), "a reader's own file does no harm");
        fs::write(root.join("etc/passwd"), "").unwrap();
        assert!(!is_there(&root, &plan));
    }

    #[test]
    fn a_stamp_tells_another_source() {
        let folder = tempfile::tempdir().unwrap();
        let plan = sample(folder.path());
        let before = stamp(&plan).unwrap();
        assert_eq!(stamp(&plan).unwrap(), before);
        fs::write(folder.path().join("source"), "another busybox").unwrap();
        assert_ne!(stamp(&plan).unwrap(), before);
    }
}
