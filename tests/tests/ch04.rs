//! Tests of chapter 4, union file systems: what its page says, asked of the kernel.

mod hints;
mod layers;

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Child, Host, Need, Outcome, Output, Test, args, ns_inode, wait_until};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROOT: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs];
const USER: &[Need] = &[Need::UserNamespaces, Need::OverlayUser, Need::Rootfs];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test { name: "ch04::root_is_an_overlay_of_the_containers_own", needs: ROOT, run: root_is_an_overlay },
        Test {
            name: "ch04::user_root_is_an_overlay_of_the_containers_own",
            needs: USER,
            run: |host| root_is_an_overlay(&host.as_user()),
        },
        Test { name: "ch04::the_layers_stay_as_they_are", needs: ROOT, run: layers_stay },
        Test {
            name: "ch04::user_the_layers_stay_as_they_are",
            needs: USER,
            run: |host| layers_stay(&host.as_user()),
        },
        Test {
            name: "ch04::with_the_hosts_user_namespace_attributes_are_trusted",
            needs: ROOT,
            run: trusted_attributes,
        },
        Test { name: "ch04::two_containers_share_the_base_alone", needs: ROOT, run: two_containers },
        Test { name: "ch04::nothing_of_the_container_stays", needs: ROOT, run: nothing_stays },
        Test {
            name: "ch04::user_nothing_of_the_container_stays",
            needs: USER,
            run: |host| nothing_stays(&host.as_user()),
        },
        Test { name: "ch04::a_container_dies_with_its_runtime_process", needs: ROOT, run: dies_with_runtime },
        Test { name: "ch04::limits_and_names_of_the_earlier_chapters", needs: ROOT, run: earlier_chapters },
        Test { name: "ch04::operations_show_the_layer", needs: ROOT, run: operations },
        Test {
            name: "ch04::user_operations_show_the_layer",
            needs: USER,
            run: |host| operations(&host.as_user()),
        },
        Test { name: "ch04::escape_is_safe", needs: ROOT, run: escape_is_safe },
        Test { name: "ch04::user_escape_is_safe", needs: USER, run: |host| escape_is_safe(&host.as_user()) },
        Test {
            name: "ch04::escape_finds_the_shared_base_of_chapter_2",
            needs: ROOT,
            run: escape_in_chapter_2,
        },
        Test { name: "ch04::explain_tells_one_call_a_layer", needs: ROOT, run: explain },
    ];
    tests.extend(layers::tests());
    tests.extend(hints::tests());
    tests
}

/// The arguments that give these layers.
fn stack(layers: &[&Path]) -> Vec<OsString> {
    layers.iter().flat_map(|layer| args!["--layer", *layer]).collect()
}

/// Runs a shell script over the layers, with more options.
fn sh(host: &Host, layers: &[&Path], options: &[OsString], script: &str) -> Result<Output> {
    let args = [stack(layers), options.to_vec(), args!["--", "/bin/sh", "-c", script].to_vec()].concat();
    host.command("04-unionfs", args)
}

/// A running 04-unionfs. It is ended gently when this is dropped: one that is killed cannot remove its directory.
struct Container(Child);

impl Deref for Container {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.signal(Signal::SIGTERM);
        let _ = wait_until("its end", Duration::from_secs(60), || self.0.ended());
    }
}

/// A container that stays, when its command runs, with the command's pid on the host.
fn sleeper(host: &Host, layers: &[&Path], options: &[OsString]) -> Result<(Container, i32)> {
    let args = [stack(layers), options.to_vec(), args!["--", "/bin/sleep", "60"].to_vec()].concat();
    let child = Container(host.spawn("04-unionfs", args)?);
    let mut pid = 0;
    wait_until("the command runs", Duration::from_secs(60), || {
        let running = tests::ask::descendants(child.pid());
        pid = running
            .into_iter()
            .find(|&pid| tests::ask::command_line(pid).starts_with("/bin/sleep"))
            .unwrap_or(0);
        pid != 0
    })?;
    Ok((child, pid))
}

/// The line of `/` in a process's mount table.
fn root_line(pid: i32) -> Result<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let line = table.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    Ok(line.ok_or("no root in the mount table")?.to_owned())
}

/// How many layers an overlay's line in the mount table has. Before Linux 6.8 they stand in one option.
fn layers_of(line: &str) -> usize {
    let one_by_one = line.matches("lowerdir+=").count();
    let together = line.split(',').find_map(|option| option.strip_prefix("lowerdir="));
    together.map_or(one_by_one, |layers| layers.split(':').count())
}

/// Everything about a tree that a container could have changed: bytes, owners, modes, links, times.
fn fingerprint(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let (mut found, mut read) = (BTreeMap::new(), HashSet::new());
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let about = fs::symlink_metadata(&path)?;
            // A file with many names, such as busybox, is read once.
            let sum = match about.is_file() && read.insert(about.ino()) {
                true => hash(&fs::read(&path)?),
                false => 0,
            };
            let (ids, times) =
                ((about.uid(), about.gid()), (about.mtime(), about.mtime_nsec(), about.ctime()));
            let text = format!("{:o} {ids:?} {times:?} {} {sum}", about.mode(), about.nlink());
            if about.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, text);
        }
    }
    Ok(found)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn root_is_an_overlay(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let (child, pid) = sleeper(host, &[&rootfs], &[])?;
    let line = root_line(pid)?;
    assert!(line.contains(" / / rw") && line.contains(" - overlay sampan "), "{line}");
    assert!(line.contains("userxattr") && layers_of(&line) == 1, "{line}");
    assert_ne!(ns_inode(pid, "mnt")?, ns_inode(child.pid(), "mnt")?);
    assert_ne!(ns_inode(pid, "user")?, ns_inode(child.pid(), "user")?);
    let ours = fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!ours.contains("overlay sampan"), "the host's mount table has it: {ours}");
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let points: Vec<_> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    let foreign = points.iter().any(|point| point.contains("mapped") || point.contains("merged"));
    assert!(!foreign, "the layers' own mounts went with the old root: {points:?}");
    Ok(())
}

fn layers_stay(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let before = fingerprint(&rootfs)?;
    let script = "set -e; echo x >>/bin/busybox; chmod 4777 /etc/passwd; rm -r /kit; mv /etc/group /etc/g; \
         ln /etc/passwd /p; rm /etc/hosts; mkdir /etc/hosts; echo x >/etc/hosts/x; touch -d @0 /etc";
    sh(host, &[&rootfs], &[], script)?.success()?;
    assert_eq!(fingerprint(&rootfs)?, before);
    Ok(())
}

fn trusted_attributes(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let (child, pid) = sleeper(host, &[&rootfs], &args!["--share", "user"])?;
    let line = root_line(pid)?;
    assert!(line.contains("overlay") && !line.contains("userxattr"), "{line}");
    assert_eq!(ns_inode(pid, "user")?, ns_inode(child.pid(), "user")?);
    Ok(())
}

fn two_containers(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let (_first, one) = sleeper(host, &[&rootfs], &[])?;
    let (_second, other) = sleeper(host, &[&rootfs], &[])?;
    let at = |pid: i32, path: &str| PathBuf::from(format!("/proc/{pid}/root/{path}"));
    // By the container's own root, so that the write goes the way that a program's would.
    fs::write(at(one, "etc/hosts"), "changed")?;
    assert_eq!(fs::read_to_string(at(one, "etc/hosts"))?, "changed");
    assert_ne!(fs::read_to_string(at(other, "etc/hosts"))?, "changed");
    assert_eq!(fs::read(at(other, "bin/busybox"))?, fs::read(rootfs.join("bin/busybox"))?);
    Ok(())
}

fn leftovers(host: &Host) -> Result<Vec<String>> {
    let entries = fs::read_dir(&host.place().scratch)?.collect::<std::result::Result<Vec<_>, _>>()?;
    let names = entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with("sampan-")).collect())
}

fn nothing_stays(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let folder = host.new_dir()?;
    let upper = folder.join("upper");
    // Files of other owners, and folders that nobody may enter, must go too.
    let script = "mkdir /closed /closed/x; chown 7:7 /closed/x 2>/dev/null; chmod 0 /closed/x /closed";
    sh(host, &[&rootfs], &[], script)?.success()?;
    sh(host, &[&rootfs], &args!["--upper", &upper], "echo text >/new")?.success()?;
    assert_eq!(leftovers(host)?, Vec::<String>::new());
    let names: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["upper"], "the work directory is the kernel's, and goes");
    assert_eq!(fs::read_to_string(upper.join("new"))?, "text\n");
    sh(host, &[&rootfs], &args!["--upper", &upper], "grep -q text /new")?.success()?;
    Ok(())
}

fn dies_with_runtime(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let (child, pid) = sleeper(host, &[&rootfs], &[])?;
    child.signal(Signal::SIGKILL)?;
    wait_until("the container is gone", Duration::from_secs(60), || {
        !Path::new(&format!("/proc/{pid}")).exists() || tests::ask::state(pid) == Some('Z')
    })?;
    for name in leftovers(host)? {
        fs::remove_dir_all(host.place().scratch.join(name))?;
    }
    Ok(())
}

fn earlier_chapters(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let options = args!["--hostname", "layered", "--pids", "50", "--memory", "64m"];
    let (_child, pid) = sleeper(host, &[&rootfs], &options)?;
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    assert!(cgroups.lines().any(|line| line.contains("/sampan/04-unionfs-")), "{cgroups}");
    let seen = host.probe("04-unionfs", args!["--layer", &rootfs, "--hostname", "layered", "/kit/probe"])?;
    assert!(seen.to_string().contains("\"layered\""), "{seen}");
    Ok(())
}

fn operations(host: &Host) -> Outcome {
    let output = host.command("04-operations", args![host.rootfs()?])?.success()?;
    let row = |name: &str| -> Result<Vec<String>> {
        let line = output.stdout.lines().find(|line| line.starts_with(name)).ok_or(name)?;
        Ok(line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect())
    };
    let lies = |name, before: &str, after: &str| -> Outcome {
        let row = row(name)?;
        assert_eq!((row[2].as_str(), row[3].as_str()), (before, after), "{row:?}");
        Ok(())
    };
    lies("add", "nowhere", "upper, 5 bytes")?;
    lies("read", "layer 1, 100000 bytes", "layer 1, 100000 bytes")?;
    lies("open for writing", "layer 1, 100000 bytes", "upper, 100000 bytes")?;
    lies("modify one byte", "layer 1, 100000 bytes", "upper, 100001 bytes")?;
    lies("chmod", "layer 1, 100000 bytes", "upper, 100000 bytes")?;
    lies("delete", "layer 1, 100000 bytes", "upper: whiteout c 0 0")?;
    lies("delete a folder", "layer 1", "upper: whiteout c 0 0")?;
    lies("delete what was added", "upper, 5 bytes", "nowhere")
}

fn escape_is_safe(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let before = fingerprint(&rootfs)?;
    let output = host.command("04-unionfs", args!["--layer", &rootfs, "/kit/04-escape"])?.success()?;
    assert!(output.stdout.starts_with("SAFE"), "{output}");
    assert_eq!(fingerprint(&rootfs)?, before, "whatever it says, the base must be as it was");
    Ok(())
}

/// The attack must be able to succeed, or its SAFE means nothing.
fn escape_in_chapter_2(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let before = fingerprint(&rootfs)?;
    let output = host.command("02-namespaces", args![&rootfs, "/kit/04-escape"])?.expect(1)?;
    assert!(output.stdout.starts_with("RISK"), "{output}");
    assert_ne!(fingerprint(&rootfs)?, before);
    Ok(())
}

fn explain(host: &Host) -> Outcome {
    let (one, two) = (host.rootfs()?, host.new_dir()?);
    let args = args!["--explain", "--layer", &one, "--layer", &two, "/bin/true"];
    let output = host.command("04-unionfs", args)?.success()?;
    assert_eq!(output.stderr.matches("fsconfig lowerdir+ ").count(), 2, "{output}");
    // Before Linux 6.8 overlay takes no layers one by one, and says so in the end.
    if output.stderr.contains("mount overlay ") {
        assert!(output.stderr.contains("fsconfig CMD_CREATE = EINVAL"), "{output}");
        return Ok(());
    }
    for call in ["fsopen overlay", "fsconfig CMD_CREATE", "fsmount overlay", "move_mount "] {
        assert!(output.stderr.contains(call), "no {call}: {output}");
    }
    Ok(())
}
