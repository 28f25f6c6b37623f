//! Each failure that chapter 4 explains, provoked by its binary. The library's own tests provoke the rest.

use std::fs;
use std::path::Path;

use nix::mount::MsFlags;
use tests::{Host, Outcome, Output, Test, args};

use super::{ROOT, Result, USER, sh, sleeper};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch04::no_layer_is_explained", needs: ROOT, run: no_layer },
        Test { name: "ch04::user_no_layer_is_explained", needs: USER, run: |host| no_layer(&host.as_user()) },
        Test { name: "ch04::hint_upper_and_work_on_two_mounts", needs: ROOT, run: two_mounts },
        Test { name: "ch04::hint_upper_of_other_layers", needs: ROOT, run: stale },
        Test { name: "ch04::hint_too_many_layers", needs: ROOT, run: too_many },
        Test { name: "ch04::hint_upper_inside_a_layer", needs: ROOT, run: upper_on_overlay },
        Test { name: "ch04::an_upper_has_one_writer", needs: ROOT, run: one_writer },
        Test {
            name: "ch04::user_an_upper_has_one_writer",
            needs: USER,
            run: |host| one_writer(&host.as_user()),
        },
    ]
}

fn told(output: &Output, errno: &str, words: &str) {
    // A note may stand before it, where a file system cannot show its files under other ids.
    assert!(output.stderr.lines().any(|line| line.starts_with("error: ")), "{output}");
    assert!(output.stderr.contains(errno), "no {errno}: {output}");
    assert!(output.stderr.contains(words), "no {words:?}: {output}");
    let hint = output.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default();
    assert!(hint.contains("see the book, 04-unionfs.html#"), "{output}");
}

fn fails(host: &Host, layers: &[&Path], options: &[std::ffi::OsString]) -> Result<Output> {
    let output = sh(host, layers, options, "echo it ran")?.expect(125)?;
    assert_eq!(output.stdout, "", "nothing was run: {output}");
    Ok(output)
}

fn no_layer(host: &Host) -> Outcome {
    let output = fails(host, &[], &[])?;
    assert!(output.stderr.contains("give --layer"), "{output}");
    let output = fails(host, &[&host.rootfs()?, Path::new("/nowhere")], &[])?;
    assert!(output.stderr.contains("no layer \"/nowhere\""), "{output}");
    Ok(())
}

/// Somebody mounted a disk on the upper directory itself: beside it is another file system.
fn two_mounts(host: &Host) -> Outcome {
    let upper = host.new_dir()?.join("upper");
    fs::create_dir(&upper)?;
    tests::inside::mount_at(Some("tmpfs"), &upper, Some("tmpfs"), MsFlags::empty(), "")?;
    let output = fails(host, &[&host.rootfs()?], &args!["--upper", &upper])?;
    told(&output, "EINVAL", "one mount");
    Ok(())
}

/// The kernel remembers only with an index, and keeps one only for the host's root.
fn stale(host: &Host) -> Outcome {
    let upper = host.new_dir()?.join("upper");
    let options = args!["--share", "user", "--index", "--upper", &upper];
    sh(host, &[&host.rootfs()?], &options, "true")?.success()?;
    let output = fails(host, &[&host.new_rootfs()?], &options)?;
    told(&output, "ESTALE", "other layers");
    Ok(())
}

fn too_many(host: &Host) -> Outcome {
    let (rootfs, folder) = (host.rootfs()?, host.new_dir()?);
    let mut layers = vec![rootfs];
    for number in 0..500 {
        layers.push(folder.join(number.to_string()));
        fs::create_dir(folder.join(number.to_string()))?;
    }
    let layers: Vec<&Path> = layers.iter().map(AsRef::as_ref).collect();
    told(&fails(host, &layers, &args!["--share", "user"])?, "EINVAL", "500");
    Ok(())
}

fn upper_on_overlay(host: &Host) -> Outcome {
    // /etc is covered by an overlay of the test's own.
    let output = fails(host, &[&host.rootfs()?], &args!["--share", "user", "--upper", "/etc/upper"])?;
    told(&output, "EINVAL", "overlay");
    Ok(())
}

fn one_writer(host: &Host) -> Outcome {
    let (rootfs, upper) = (host.rootfs()?, host.new_dir()?.join("upper"));
    let (_child, _) = sleeper(host, &[&rootfs], &args!["--upper", &upper])?;
    let output = fails(host, &[&rootfs], &args!["--upper", &upper])?;
    assert!(output.stderr.contains("of a running container"), "{output}");
    Ok(())
}
