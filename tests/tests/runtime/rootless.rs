//! What an ordinary user has: ids, with the programs that give more and without; and what cannot be had without a cgroup.

use std::fs;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::lifecycle::SOON;
use super::{BIN, Bundle, Result, USER};

pub(super) fn tests() -> Vec<Test> {
    const GRANTED: &[Need] = &[Need::UserNamespaces, Need::Rootfs, Need::SubordinateIds];
    vec![
        Test {
            name: "runtime::user_has_the_granted_ids",
            needs: GRANTED,
            run: |host| granted(&host.as_user()),
        },
        Test {
            name: "runtime::user_without_newuidmap_has_one",
            needs: USER,
            run: |host| one(&host.as_user()),
        },
        Test { name: "runtime::user_has_runcs_commands", needs: USER, run: |host| commands(&host.as_user()) },
    ]
}

/// Lines of a map, without the blanks.
fn map(bundle: &Bundle<'_>) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{}/uid_map", bundle.pid("c")?))?;
    Ok(text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

fn granted(host: &Host) -> Outcome {
    let (uid, _) = host.ids();
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    let all = map(&bundle)?;
    assert_eq!((all.len(), &*all[0]), (2, &*format!("0 {uid} 1")), "{all:?}");
    let text = "id -u; id -g; id -G";
    let output = bundle.call(&["exec", "--user", "7:8", "-g", "9", "c", "/bin/sh", "-c", text])?.success()?;
    assert_eq!(output.stdout, "7\n8\n8 9\n");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    // Others' ids alone, none of them the user's own.
    let first: u32 = all[1].split(' ').nth(1).unwrap_or_default().parse()?;
    bundle.rewrite(&["/bin/sleep", "100"], |config| {
        for field in ["uidMappings", "gidMappings"] {
            config["linux"][field] = json!([{ "containerID": 0, "hostID": first, "size": 1000 }]);
        }
    })?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    assert_eq!(map(&bundle)?, [format!("0 {first} 1000")]);
    bundle.call(&["delete", "--force", "c"])?.success()?;
    // Nobody's.
    bundle.rewrite(&["/bin/true"], |config| {
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1, "size": 1000 }]);
    })?;
    assert!(bundle.run()?.expect(1)?.stderr.contains("newuidmap"));
    Ok(())
}

fn one(host: &Host) -> Outcome {
    let (uid, gid) = host.ids();
    let empty = host.new_dir()?.display().to_string();
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    let many: Value = serde_json::from_slice(&fs::read(bundle.config())?)?;
    fs::remove_file(bundle.config())?;
    let spec = tests::args!["spec", "--rootless", "--bundle", &bundle.folder];
    host.cmd(BIN, spec).env("PATH", &empty).run()?.success()?;
    let mut config: Value = serde_json::from_slice(&fs::read(bundle.config())?)?;
    let only = |id| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    assert_eq!((&config["linux"]["uidMappings"], &config["linux"]["gidMappings"]), (&only(uid), &only(gid)));
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sleep", "100"]);
    config["root"] = many["root"].clone();
    fs::write(bundle.config(), config.to_string())?;
    let call = |words: &[&str]| bundle.cmd(words).env("PATH", &empty).run();
    call(&["run", "--detach", "c"])?.success()?;
    assert_eq!(map(&bundle)?, [format!("0 {uid} 1")]);
    assert!(call(&["exec", "c", "/bin/id"])?.success()?.stdout.starts_with("uid=0(root) gid=0(root)"));
    // There are no others to become.
    call(&["exec", "--user", "7", "c", "/bin/id"])?.expect(255)?;
    call(&["exec", "-g", "7", "c", "/bin/id"])?.expect(255)?;
    call(&["delete", "--force", "c"])?.success()?;
    config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }, { "containerID": 1, "hostID": 100_000, "size": 5 }]);
    fs::write(bundle.config(), config.to_string())?;
    let output = call(&["run", "c"])?.expect(1)?;
    assert!(output.stderr.contains("newuidmap"), "{output}");
    assert!(!bundle.state.exists());
    Ok(())
}

/// Where this user may make no cgroup, each says so that needs one; the others do without.
fn commands(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["--rootless", "true", "run", "--detach", "c"])?.success()?;
    bundle.call(&["exec", "--detach", "c", "/bin/sleep", "100"])?.success()?;
    let members = || -> Result<usize> {
        let list: Value = bundle.call(&["ps", "--format", "json", "c"])?.success()?.json()?;
        Ok(list.as_array().map(Vec::len).unwrap_or_default())
    };
    assert_eq!(members()?, 2);
    assert_eq!(bundle.call(&["ps", "c"])?.success()?.stdout.lines().count(), 3);
    let has_cgroup = bundle.call(&["pause", "c"])?.code == 0;
    if has_cgroup {
        bundle.call(&["resume", "c"])?.success()?;
    } else {
        for words in [
            &["pause", "c"][..],
            &["resume", "c"],
            &["events", "--stats", "c"],
            &["update", "--pids-limit", "9", "c"],
        ] {
            let output = bundle.call(words)?.expect(1)?;
            assert!(output.stderr.contains("has no cgroup"), "{words:?} {output}");
        }
        // Asked for, it is an error and never silently less.
        let limited = Bundle::new(host, &["/bin/true"], |config| {
            config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        })?;
        let output = limited.call(&["run", "d"])?.expect(1)?;
        assert!(output.stderr.contains("does not belong to this user"), "{output}");
        let strict = Bundle::new(host, &["/bin/true"], |_| {})?;
        let output = strict.call(&["--rootless", "false", "run", "d"])?.expect(1)?;
        assert!(output.stderr.contains("does not belong to this user"), "{output}");
    }
    bundle.call(&["kill", "--all", "c", "KILL"])?.success()?;
    wait_until("all have ended", SOON, || bundle.state("c").is_ok_and(|state| state["status"] == "stopped"))?;
    bundle.call(&["kill", "--all", "c", "KILL"])?.success()?;
    bundle.call(&["delete", "c"])?.success()?;
    assert!(!bundle.state.exists());
    Ok(())
}
