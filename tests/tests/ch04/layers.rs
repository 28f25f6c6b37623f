//! Layers from archives, many of them, and back.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tests::{Host, Outcome, Test, args};

use super::{ROOT, Result, USER, sh, sleeper, stack};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch04::an_archive_is_a_layer", needs: ROOT, run: archive },
        Test { name: "ch04::user_an_archive_is_a_layer", needs: USER, run: |host| archive(&host.as_user()) },
        Test { name: "ch04::layers_127", needs: ROOT, run: many },
        Test { name: "ch04::user_layers_127", needs: USER, run: |host| many(&host.as_user()) },
        Test { name: "ch04::a_deletion_is_a_whiteout_in_both_forms", needs: ROOT, run: whiteouts },
        Test {
            name: "ch04::user_a_deletion_is_a_whiteout_in_both_forms",
            needs: USER,
            run: |host| whiteouts(&host.as_user()),
        },
        Test { name: "ch04::changes_are_those_of_the_kernels_upper", needs: ROOT, run: changes },
        Test {
            name: "ch04::user_changes_are_those_of_the_kernels_upper",
            needs: USER,
            run: |host| changes(&host.as_user()),
        },
        Test { name: "ch04::a_diff_is_the_same_bytes_each_time", needs: ROOT, run: same_bytes },
    ]
}

fn archive(host: &Host) -> Outcome {
    let tar = host.tar();
    let (_child, pid) = sleeper(host, &[&tar], &[])?;
    let line = super::root_line(pid)?;
    assert!(line.contains("overlay"), "{line}");
    let init = fs::metadata(format!("/proc/{pid}/root/etc"));
    if nix::unistd::geteuid().is_root() {
        // The files are root's as the container sees it, whoever that is outside.
        assert_eq!(init?.uid(), fs::metadata(format!("/proc/{pid}"))?.uid());
    }
    Ok(())
}

fn many(host: &Host) -> Outcome {
    let (rootfs, folder) = (host.rootfs()?, host.new_dir()?);
    let mut layers = vec![rootfs];
    for number in 1..127 {
        let layer = folder.join(format!("a-layer-with-a-name-as-long-as-those-that-a-store-gives-{number}"));
        fs::create_dir(&layer)?;
        fs::write(layer.join("last"), number.to_string())?;
        fs::write(layer.join(format!("only{number}")), "")?;
        layers.push(layer);
    }
    let layers: Vec<&Path> = layers.iter().map(AsRef::as_ref).collect();
    let (_child, pid) = sleeper(host, &layers, &[])?;
    let line = super::root_line(pid)?;
    assert_eq!(super::layers_of(&line), 127, "{line}");
    let output = sh(host, &layers, &[], "cat /last; ls / | grep -c only")?.success()?;
    assert_eq!(output.stdout, "126126\n");
    Ok(())
}

/// A container deletes; its diff, as an archive, deletes in the next one; and on the disk the whiteout is the kernel's own.
fn whiteouts(host: &Host) -> Outcome {
    let (rootfs, folder) = (host.rootfs()?, host.new_dir()?);
    let upper = folder.join("upper");
    let script = "rm /etc/hosts; rm -r /kit; mkdir /kit; echo text >/kit/new";
    sh(host, &[&rootfs], &args!["--upper", &upper], script)?.success()?;
    let about = fs::symlink_metadata(upper.join("etc/hosts"))?;
    assert!(about.file_type().is_char_device() && about.rdev() == 0, "{about:?}");
    let layer = folder.join("layer.tar");
    let diff = diff(host, &rootfs, &upper)?;
    fs::write(&layer, &diff)?;
    let names = names(&diff)?;
    for name in ["etc/", "etc/.wh.hosts", "kit/", "kit/.wh..wh..opq", "kit/new"] {
        assert!(names.iter().any(|found| found == name), "no {name} in {names:?}");
    }
    let output = sh(host, &[&rootfs, &layer], &[], "ls /etc/hosts 2>/dev/null; ls /kit")?.success()?;
    assert_eq!(output.stdout, "new\n");
    // The directory as it is makes a layer as well, with nothing unpacked.
    let output = sh(host, &[&rootfs, &upper], &[], "ls /etc/hosts 2>/dev/null; ls /kit")?.success()?;
    assert_eq!(output.stdout, "new\n");
    Ok(())
}

fn diff(host: &Host, rootfs: &Path, upper: &Path) -> Result<Vec<u8>> {
    let layer = host.new_dir()?.join("layer.tar");
    let script = "exec \"$0\" diff --layer \"$1\" --upper \"$2\" >\"$3\"";
    let program = host.bin("04-unionfs");
    host.command("/bin/sh", args!["-c", script, program, rootfs, upper, &layer])?.success()?;
    Ok(fs::read(layer)?)
}

fn names(archive: &[u8]) -> Result<Vec<String>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries()?;
    entries.map(|entry| Ok(String::from_utf8_lossy(&entry?.path_bytes()).into_owned())).collect()
}

fn changes(host: &Host) -> Outcome {
    let (rootfs, upper) = (host.rootfs()?, host.new_dir()?.join("upper"));
    let script =
        "echo x >/new; rm /etc/hosts; chmod 600 /etc/passwd; cat /etc/group >/dev/null; : >>/bin/busybox";
    sh(host, &[&rootfs], &args!["--upper", &upper], script)?.success()?;
    assert!(upper.join("bin/busybox").exists(), "opened for writing, it was copied up");
    assert!(!upper.join("etc/group").exists(), "read, it was not");
    let arguments =
        [args!["changes"].to_vec(), stack(&[&rootfs]), args!["--upper", &upper].to_vec()].concat();
    let output = host.command("04-unionfs", arguments)?.success()?;
    assert_eq!(output.stdout, "C /etc\nD /etc/hosts\nC /etc/passwd\nA /new\n");
    Ok(())
}

fn same_bytes(host: &Host) -> Outcome {
    let (rootfs, folder) = (host.rootfs()?, host.new_dir()?);
    let upper = folder.join("upper");
    sh(
        host,
        &[&rootfs],
        &args!["--upper", &upper],
        "mkdir /a; for i in 3 1 2; do echo $i >/a/$i; done; ln /a/1 /a/0",
    )?
    .success()?;
    let first = diff(host, &rootfs, &upper)?;
    assert_eq!(names(&first)?, ["a/", "a/0", "a/1", "a/2", "a/3"]);
    // Another directory with the same files, made in another order.
    let copy = folder.join("copy");
    host.command("cp", args!["-a", &upper, &copy])?.success()?;
    std::io::stdout().flush()?;
    assert_eq!(diff(host, &rootfs, &copy)?, first);
    Ok(())
}
