//! Races: somebody on the host, or in another container, swaps a directory for a link while the runtime works.
//!
//! Each goes on for a while. Whether a container starts is not the point, for who may change its root file system at this moment
//! may break it; but one that starts must be whole, and nothing outside may have changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Output, Test};

use super::super::{Bundle, bind};
use super::proc::fake_proc;
use super::{Swapper, listing};

const RACE: &[Need] = &[Need::Root, Need::Rootfs, Need::Patience];
/// How long one race goes on.
const TIME: Duration = Duration::from_millis(2500);
/// How often at least.
const ROUNDS: u32 = 6;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "runtime::attacks::links_swapped_below_a_mount",
            needs: RACE,
            run: |host| mounts(host, "/data/a/x"),
        },
        Test {
            name: "runtime::attacks::links_swapped_at_a_mount",
            needs: RACE,
            run: |host| mounts(host, "/data/a"),
        },
        Test { name: "runtime::attacks::links_swapped_at_the_cwd", needs: RACE, run: cwd },
        Test { name: "runtime::attacks::proc_swapped_while_it_is_masked", needs: RACE, run: proc },
        Test { name: "runtime::attacks::dev_null_swapped_while_it_masks", needs: RACE, run: dev_null },
        Test { name: "runtime::attacks::settings_while_proc_is_swapped", needs: RACE, run: settings },
    ]
}

/// Runs a container again and again while two names are swapped; gives how many of how many started.
fn race(
    bundle: &Bundle<'_>,
    swapper: &Swapper,
    mut check: impl FnMut(&Output) -> Outcome,
) -> Result<(u32, u32), Box<dyn std::error::Error>> {
    let (begin, mut started, mut rounds) = (Instant::now(), 0, 0);
    // On a busy machine the time alone would be too short for a race.
    while begin.elapsed() < TIME || rounds < ROUNDS {
        let output = bundle.run()?;
        rounds += 1;
        if output.code == 0 {
            started += 1;
        }
        check(&output)?;
    }
    assert!(swapper.swaps() > u64::from(rounds), "nobody swapped anything");
    eprintln!("{started} of {rounds} started, {} swaps", swapper.swaps());
    Ok((started, rounds))
}

/// The volume's mount must be in the container, or there is no container: one that is made outside disappears with the host's tree.
fn mounts(host: &Host, destination: &str) -> Outcome {
    let (outside, volume) = (host.new_dir()?, host.new_dir()?);
    fs::create_dir(outside.join("x"))?;
    fs::write(volume.join("mark"), "volume")?;
    let rootfs = host.new_rootfs()?;
    fs::create_dir_all(rootfs.join("data/a"))?;
    symlink(&outside, rootfs.join("data/b"))?;
    let before = listing(&outside)?;
    let name = volume.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = format!("grep -c '/{name} ' /proc/self/mountinfo; true");
    let bundle = Bundle::new(host, &["/bin/sh", "-c", &text], |config| {
        config["root"]["path"] = json!(rootfs);
        bind(config, &volume, destination, &["rbind"]);
    })?;
    let swapper = Swapper::start(&rootfs.join("data/a"), &rootfs.join("data/b"));
    race(&bundle, &swapper, |output| {
        if output.code == 0 {
            assert_eq!(output.stdout, "1\n", "the mount went elsewhere: {output:?}");
        }
        assert_eq!(listing(&outside)?, before, "something was made outside");
        Ok(())
    })?;
    Ok(())
}

/// A descriptor of the runtime's leads to the host's files until exec.
fn cwd(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    fs::create_dir_all(rootfs.join("job/a"))?;
    symlink("/proc/self/fd/4", rootfs.join("job/b"))?;
    let bundle = Bundle::new(host, &["/bin/sh", "-c", "readlink /proc/self/cwd"], |config| {
        config["root"]["path"] = json!(rootfs);
        config["process"]["cwd"] = json!("/job/a/made");
    })?;
    let swapper = Swapper::start(&rootfs.join("job/a"), &rootfs.join("job/b"));
    race(&bundle, &swapper, |output| {
        let inside = output.stdout.starts_with("/job/");
        assert!(output.code != 0 || inside, "{output:?}");
        Ok(())
    })?;
    Ok(())
}

/// The directory on which proc is mounted is moved away, and one that has none of the paths to be masked is put there.
fn proc(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    fake_proc(&rootfs.join("fake"))?;
    // From inside of the one or the other, so that no swap changes what is looked at.
    let text = "for p in /proc /fake; do cd $p; test -e self/ns || continue
        (: >> sys/kernel/core_pattern) 2>/dev/null && echo RISK $p
        test -n \"$(head -c1 keys)\" && echo RISK $p/keys; done; true";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        config["root"]["path"] = json!(rootfs);
    })?;
    let swapper = Swapper::start(&rootfs.join("proc"), &rootfs.join("fake"));
    race(&bundle, &swapper, |output| {
        assert!(!output.stdout.contains("RISK"), "{output:?}");
        Ok(())
    })?;
    Ok(())
}

/// /dev is a volume, in which null is now the device and now a link to a file that the container must not write.
fn dev_null(host: &Host) -> Outcome {
    let volume = host.new_dir()?;
    mknod(&volume.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))?;
    symlink("/proc/sys/kernel/core_pattern", volume.join("link"))?;
    let text = "stat -c %t:%T /proc/keys; test -s /proc/keys && echo RISK; test -n \"$(head -c1 /proc/keys)\" && echo RISK; true";
    let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
        }
        bind(config, &volume, "/dev", &["rbind", "dev"]);
        config["linux"]["maskedPaths"] = json!(["/proc/keys"]);
        config["linux"]["readonlyPaths"] = json!([]);
    })?;
    let swapper = Swapper::start(&volume.join("null"), &volume.join("link"));
    let (mut started, mut rounds) = (0, 0);
    // A few rounds may all end in one way, and a busy machine has no more of them in the time.
    for _ in 0..20 {
        let (more, of) = race(&bundle, &swapper, |output| {
            if output.code == 0 {
                assert_eq!(output.stdout, "1:3\n", "{output:?}");
            }
            Ok(())
        })?;
        (started, rounds) = (started + more, rounds + of);
        if 0 < started && started < rounds {
            break;
        }
    }
    assert!(0 < started && started < rounds, "{started} of {rounds}: it was not a race");
    Ok(())
}

/// A setting that is told to be made must be made: asked of the kernel from outside, in the container's network namespace.
fn settings(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    fake_proc(&rootfs.join("fake"))?;
    let bundle = Bundle::new(host, &["/bin/true"], |config: &mut Value| {
        config["root"]["path"] = json!(rootfs);
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    })?;
    let swapper = Swapper::start(&rootfs.join("proc"), &rootfs.join("fake"));
    let (begin, mut rounds) = (Instant::now(), 0);
    while begin.elapsed() < TIME || rounds < ROUNDS {
        rounds += 1;
        if bundle.call(&["create", "c"])?.code != 0 {
            continue;
        }
        let namespace = format!("--net=/proc/{}/ns/net", bundle.pid("c")?);
        let seen =
            host.command("nsenter", [&namespace, "cat", "/proc/sys/net/ipv4/ip_forward"])?.success()?;
        bundle.call(&["delete", "--force", "c"])?.success()?;
        assert_eq!(seen.stdout, "1\n", "it was not made");
    }
    drop(swapper);
    let fake = ["proc", "fake"].map(|name| rootfs.join(name).join("sys/net/ipv4/ip_forward"));
    let texts: Vec<_> = fake.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert_eq!(texts, ["fake"], "a file that is not proc's was written");
    Ok(())
}
