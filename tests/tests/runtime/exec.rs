//! One more process: where it is, and that what is not said of it is as it is for the first.

use std::fs;

use serde_json::json;
use tests::{Host, Need, Outcome, Test};

use super::resources::Sleeper;
use super::{ROOT, Result, status};

pub(super) fn tests() -> Vec<Test> {
    const V2: &[Need] = &[Need::Root, Need::Rootfs, Need::CgroupV2("hugetlb")];
    const PIDS: &[Need] = &[Need::Root, Need::Rootfs, Need::Cgroup("pids"), Need::Cgroup("memory")];
    vec![
        Test { name: "runtime::a_process_of_a_file_is_confined_like_the_first", needs: ROOT, run: file },
        Test { name: "runtime::exec_into_a_cgroup_below_leaves_no_other", needs: PIDS, run: below },
        Test { name: "runtime::an_exec_that_nobody_is_told_of_is_ended", needs: ROOT, run: untold },
        Test { name: "runtime::exec_goes_where_the_first_is", needs: V2, run: divided },
    ]
}

/// Runs one more process that sleeps; gives its number.
fn second(sleeper: &Sleeper<'_>, words: &[&str], command: &[&str]) -> Result<i32> {
    let file = sleeper.0.folder.join("second");
    let _ = fs::remove_file(&file);
    let file = file.display().to_string();
    let all = [&["exec", "--detach", "--pid-file", &file][..], words, &["c"], command].concat();
    sleeper.0.call(&all)?.success()?;
    Ok(fs::read_to_string(file)?.parse()?)
}

fn file(host: &Host) -> Outcome {
    let sleeper = Sleeper::new(host, |config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
        config["process"]["oomScoreAdj"] = json!(77);
    })?;
    let first = sleeper.0.pid("c")?;
    let path = sleeper.0.folder.join("process.json");
    let run = |more: serde_json::Value| -> Result<i32> {
        let mut process =
            json!({ "args": ["/bin/sleep", "100"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
        process
            .as_object_mut()
            .into_iter()
            .for_each(|all| all.extend(more.as_object().cloned().unwrap_or_default()));
        fs::write(&path, process.to_string())?;
        second(&sleeper, &["--process", &path.display().to_string()], &[])
    };
    let limit = |pid: i32| -> Result<String> {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        Ok(limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned())
    };
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    let like = run(json!({}))?;
    for line in ["CapBnd", "CapPrm", "CapEff", "Seccomp"] {
        assert_eq!(status(like, line)?, status(first, line)?, "{line}");
    }
    assert_ne!(status(first, "CapEff")?, "0000000000000000");
    assert_eq!((limit(like)?, score(like)?), (limit(first)?, score(first)?));
    let said = run(json!({ "capabilities": {}, "oomScoreAdj": 88,
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 50, "hard": 60 }] }))?;
    assert_eq!((&*status(said, "CapBnd")?, score(said)?.trim()), ("0000000000000000", "88"));
    assert!(limit(said)?.contains(" 50 "), "{}", limit(said)?);
    if !fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
    {
        // The container's own profile counts: here it cannot be had any more.
        let config = sleeper.0.state.join(super::id("c")).join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config)?)?;
        spec["process"]["apparmorProfile"] = json!("the-containers");
        fs::write(&config, spec.to_string())?;
        let error = run(json!({})).map_err(|error| error.to_string()).expect_err("no profile, and no error");
        assert!(error.contains("the-containers"), "{error}");
    }
    Ok(())
}

/// The lines of a process's cgroups, in an order of their own.
fn cgroups(pid: i32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn below(host: &Host) -> Outcome {
    let sleeper = Sleeper::new(host, |_| {})?;
    let (dir, _) = sleeper.dir("pids")?;
    fs::create_dir(dir.join("below"))?;
    let first = cgroups(sleeper.0.pid("c")?)?;
    let expected: Vec<_> = first
        .iter()
        .map(|line| {
            let path = line.rsplit(':').next().unwrap_or_default();
            let found = dir.ends_with(path.trim_start_matches('/'))
                && (line.contains(":pids:")
                    || line.starts_with("0::") && sleeper.dir("pids").is_ok_and(|it| it.1));
            if found { format!("{line}/below") } else { line.clone() }
        })
        .collect();
    assert_ne!(first, expected);
    for words in [&["--cgroup", "below"][..], &["--cgroup", "pids:below"], &["--cgroup", "pids:/below"]] {
        assert_eq!(cgroups(second(&sleeper, words, &["/bin/sleep", "100"])?)?, expected, "{words:?}");
    }
    assert_eq!(cgroups(second(&sleeper, &["--cgroup", "/"], &["/bin/sleep", "100"])?)?, first);
    for wrong in ["nowhere", "../below", "nosuch:below"] {
        let output = sleeper.0.call(&["exec", "--cgroup", wrong, "c", "/bin/true"])?;
        assert_eq!(output.code, 255, "{wrong}: {output}");
    }
    Ok(())
}

/// As systemd in a container does: it moves itself away and divides what the container was given.
fn divided(host: &Host) -> Outcome {
    let sleeper = Sleeper::new(host, |config| {
        config["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": 0 }]);
    })?;
    let (dir, _) = sleeper.dir("hugetlb")?;
    let first = sleeper.0.pid("c")?;
    fs::create_dir(dir.join("inner"))?;
    fs::write(dir.join("inner/cgroup.procs"), first.to_string())?;
    fs::write(dir.join("cgroup.subtree_control"), "+hugetlb")?;
    let own = cgroups(first)?;
    assert!(own.iter().any(|line| line.ends_with("/inner")), "{own:?}");
    assert_eq!(cgroups(second(&sleeper, &[], &["/bin/sleep", "100"])?)?, own);
    // All of it is found, and goes.
    let numbers: serde_json::Value = sleeper.0.call(&["ps", "--format", "json", "c"])?.success()?.json()?;
    assert_eq!(numbers.as_array().map(Vec::len), Some(2), "{numbers}");
    sleeper.0.call(&["delete", "--force", "c"])?.success()?;
    assert!(!dir.exists());
    Ok(())
}

fn untold(host: &Host) -> Outcome {
    let sleeper = Sleeper::new(host, |_| {})?;
    for words in [&["--pid-file", "/no/such/folder/pid"][..], &["--pidfd-socket", "/no/such/socket"]] {
        let all = [&["exec", "--detach"][..], words, &["c", "/bin/sleep", "100"]].concat();
        sleeper.0.call(&all)?.expect(255)?;
        let numbers: serde_json::Value =
            sleeper.0.call(&["ps", "--format", "json", "c"])?.success()?.json()?;
        assert_eq!(numbers, json!([sleeper.0.pid("c")?]), "{words:?}");
    }
    // What the machine has not is an error by its flag's field.
    let has = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.starts_with('Y'));
    if !has("/sys/module/apparmor/parameters/enabled") {
        let output = sleeper.0.call(&["exec", "--apparmor", "x", "c", "/bin/true"])?.expect(255)?;
        assert!(output.stderr.contains("process.apparmorProfile"), "{output}");
    }
    if !fs::exists("/sys/fs/selinux/enforce")? {
        let output =
            sleeper.0.call(&["exec", "--process-label", "u:r:t:s0", "c", "/bin/true"])?.expect(255)?;
        assert!(output.stderr.contains("process.selinuxLabel"), "{output}");
    }
    Ok(())
}
