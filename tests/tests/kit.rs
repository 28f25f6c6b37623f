//! Tests of `cargo kit`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tests::{Host, Need, Outcome, Test};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("kit::doctor_says_what_the_kernel_says", &[Need::Binary("kit")], doctor),
        test(
            "kit::clean_removes_what_is_ours_and_nothing_else",
            &[Need::Root, Need::Binary("kit"), Need::Bridge, Need::Cgroup("pids"), Need::Program("ip")],
            clean,
        ),
        test("kit::clean_leaves_a_running_container", RUNS, running),
        test("kit::bench_measures_everybody_in_each_case", BENCH, bench),
        test("kit::bench_carries_images_both_ways", IMAGES, bench_images),
        test("kit::tours_table_is_what_the_book_says", TOUR, tour),
    ]
}

const RUNS: &[Need] = &[Need::Root, Need::Binary("kit"), Need::Rootfs, Need::Cgroup("pids")];
const TOUR: &[Need] = &[
    Need::Root,
    Need::Binary("kit"),
    Need::Rootfs,
    Need::Overlay,
    Need::Nftables,
    Need::Bridge,
    Need::Cgroup("memory"),
    Need::Cgroup("pids"),
    Need::Cgroup("cpu"),
];

const BENCH: &[Need] = &[
    Need::Root,
    Need::Binary("kit"),
    Need::Binary("sampan-runtime"),
    Need::Rootfs,
    Need::Program("cc"),
    Need::Cgroup("pids"),
];

/// That the bench runs, not how fast anything is: a debug build, on a machine that does other things.
fn bench(host: &Host) -> Outcome {
    let kit = own_kit(host)?;
    let words = ["bench", "start", "--built", "--single", "--rounds", "1", "--json"];
    let bench = host.cmd("kit", words).env("KIT_DIR", &kit).limit(Duration::from_secs(200));
    let report = bench.run()?.json()?;
    let rows = report["rows"].as_array().ok_or("no rows")?;
    let cases: BTreeSet<_> = rows.iter().filter_map(|row| row["case"].as_str()).collect();
    assert_eq!(cases.len(), 5, "{report}");
    for case in cases {
        let of_case: Vec<_> = rows.iter().filter(|row| row["case"] == case).collect();
        assert_eq!(of_case[0]["who"], if case == "exec" { "fork and exec" } else { "floor" }, "{report}");
        assert_eq!(of_case[1]["who"], "sampan-runtime", "{report}");
        for row in of_case {
            let number = |name: &str| row[name].as_f64().unwrap_or_default();
            assert!(number("min") > 0.0 && number("min") <= number("median"), "{row}");
            assert!(number("median") <= number("max"), "{row}");
        }
    }
    for memory in report["memory"].as_array().ok_or("no memory")? {
        assert!(memory["peak"].as_u64() > Some(500) && memory["resident"].as_u64() > Some(100), "{memory}");
    }
    let left = fs::read_dir(kit.join("bench"))?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("bundles"))
        .count();
    assert_eq!(left, 0, "a bundle is left");
    Ok(())
}

const IMAGES: &[Need] = &[
    Need::Root,
    Need::Binary("kit"),
    Need::Binary("sampan"),
    Need::Rootfs,
    Need::Program("cc"),
    Need::Program("pigz"),
    Need::Program("docker-registry"),
    Need::Program("skopeo"),
    Need::Program("umoci"),
];

/// The same for images, of a root file system that is small.
fn bench_images(host: &Host) -> Outcome {
    let (kit, folder) = (own_kit(host)?, host.new_dir()?);
    for name in ["one", "two", "three"] {
        fs::copy(kit.join("busybox"), folder.join(name))?;
    }
    let rootfs = folder.to_string_lossy().into_owned();
    let words = ["bench", "image", "--built", "--rounds", "1", "--layers", "3", "--only", "skopeo,umoci"];
    let bench = host.cmd("kit", words.into_iter().chain(["--rootfs", &rootfs, "--json"]));
    let report = bench.env("KIT_DIR", &kit).limit(Duration::from_secs(200)).run()?.json()?;
    let rows = report["rows"].as_array().ok_or("no rows")?;
    for layers in ["one layer", "3 layers"] {
        for case in ["load", "pull", "unpack", "save", "push"] {
            let case = format!("{case}, {layers}");
            let who: Vec<_> = rows
                .iter()
                .filter(|row| row["case"] == *case)
                .filter_map(|row| row["who"].as_str())
                .collect();
            let third = if case.starts_with("unpack") { "umoci" } else { "skopeo" };
            assert_eq!(who, ["floor", "sampan", third], "{case}: {report}");
        }
    }
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or_default();
        assert!(number("min") > 0.0 && number("rate") > 0.0 && number("peak") > 500.0, "{row}");
        // A program that waits for nothing uses the processor.
        assert!(number("processor") > 0.0, "{row}");
    }
    let left = fs::read_dir(kit.join("bench"))?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("image-"))
        .count();
    assert_eq!(left, 0, "an image is left");
    Ok(())
}

fn doctor(host: &Host) -> Outcome {
    let output = host.command("kit", ["doctor", "--json"])?;
    let findings = output.json()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    assert!(findings.to_string().contains(release.trim()), "{findings}");
    let namespaces = fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned();
    assert!(findings.to_string().contains(namespaces.split(':').next().unwrap_or_default()), "{findings}");
    Ok(())
}

/// The folder of a controller, in whichever hierarchy has it.
fn hierarchy(controller: &str) -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = text.lines().filter(|line| line.contains(" - cgroup"));
    let found = mounts.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).find(|path| {
        path.ends_with(controller)
            || fs::read_to_string(path.join("cgroup.controllers"))
                .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
    });
    Ok(found.ok_or("no such controller")?)
}

fn clean(host: &Host) -> Outcome {
    // No process has this number: the kernel's largest is 4194304.
    let dead = "9999999";
    let cgroup = hierarchy("pids")?.join("sampan").join(format!("03-cgroups-{dead}"));
    let foreign_cgroup = hierarchy("pids")?.join(format!("other-{}", std::process::id()));
    let scratch = &host.place().scratch;
    let (folder, foreign_folder) =
        (scratch.join(format!("sampan-{dead}-planted")), scratch.join("other-folder"));
    for path in [&cgroup, &foreign_cgroup, &folder, &foreign_folder] {
        fs::create_dir_all(path)?;
    }
    for name in ["sampan0", "other0"] {
        host.command("ip", ["link", "add", name, "type", "bridge"])?.success()?;
    }
    let listed = host.command("kit", ["leaks"])?.stdout;
    let cleaned = host.command("kit", ["clean"])?.success()?.stdout;
    let links = fs::read_to_string("/proc/self/net/dev")?;
    let left = [&cgroup, &folder].map(|path| path.exists());
    let kept = [&foreign_cgroup, &foreign_folder].map(|path| path.exists());
    fs::remove_dir(&foreign_cgroup)?;
    for name in [cgroup.to_string_lossy(), folder.to_string_lossy(), "sampan0".into()] {
        assert!(listed.contains(&*name), "{name} is listed: {listed}");
        assert!(cleaned.contains(&*name), "{name} is removed: {cleaned}");
    }
    assert!(!listed.contains("other"), "{listed}");
    assert_eq!(left, [false, false]);
    assert_eq!(kept, [true, true]);
    assert!(links.contains("other0") && !links.contains("sampan0"), "{links}");
    Ok(())
}

fn running(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let args =
        ["--pids", "20", &rootfs.to_string_lossy(), "/bin/sh", "-c", "echo here; read line; echo $line"];
    let child = host.cmd("03-cgroups", args).input_pipe();
    let mut child = child.spawn()?;
    child.wait_for("here")?;
    let cgroup = hierarchy("pids")?.join("sampan").join(format!("03-cgroups-{}", child.pid()));
    assert!(cgroup.exists());
    host.command("kit", ["clean"])?.success()?;
    assert!(cgroup.exists() && !child.ended(), "what is in use is no leak");
    child.signal(nix::sys::signal::Signal::SIGTERM)?;
    child.wait()?;
    Ok(())
}

/// The rows that are green in the column of a program.
fn green(table: &Value, name: &str) -> BTreeSet<String> {
    let column = table.as_array().into_iter().flatten().find(|column| column["name"] == name);
    let cells = column.and_then(|column| column["cells"].as_object());
    cells
        .into_iter()
        .flatten()
        .filter(|(_, cell)| cell["green"] == true)
        .map(|(row, _)| row.clone())
        .collect()
}

/// A `target/kit` that nobody else uses, for what sets the kit up: the programs' paths are other ones here.
fn own_kit(host: &Host) -> Result<PathBuf> {
    let kit = host.new_dir()?.join("kit");
    fs::create_dir(&kit)?;
    let busybox = host.tar().parent().unwrap_or(Path::new("/")).join("rootfs/bin/busybox");
    fs::copy(busybox, kit.join("busybox"))?;
    Ok(kit)
}

fn tour(host: &Host) -> Outcome {
    let kit = own_kit(host)?;
    let tour =
        host.cmd("kit", ["tour", "--json", "--built"]).env("KIT_DIR", &kit).limit(Duration::from_secs(200));
    let table = tour.run()?.success()?.json()?;
    // A program adds to the one before, but that only chapter 3 limits the disk, and the engine shares users and clocks with
    // the host, as Docker does.
    let one: BTreeSet<String> = ["root directory".to_owned()].into();
    let steps: [(&str, &[&str]); 4] = [
        (
            "02-namespaces",
            &["processes", "mounts", "host name", "IPC", "network", "users", "cgroup view", "time"],
        ),
        ("03-cgroups", &["memory limit", "cpu limit", "pids limit"]),
        ("04-unionfs", &["copy-on-write"]),
        ("05-network", &["own address", "NAT", "published port"]),
    ];
    assert_eq!(green(&table, "01-chroot"), one, "{table}");
    let mut expected = one;
    for (name, rows) in steps {
        expected.extend(rows.iter().map(ToString::to_string));
        let mut found = green(&table, name);
        // A disk's rate is limited where the tour's folder lies on a disk.
        found.remove("io limit");
        assert_eq!(found, expected, "{name}: {table}");
    }
    expected.extend(["capabilities", "system calls"].map(str::to_owned));
    expected.remove("users");
    expected.remove("time");
    assert_eq!(green(&table, "sampan"), expected, "{table}");
    Ok(())
}
