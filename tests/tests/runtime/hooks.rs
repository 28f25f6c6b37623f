//! The six hooks: when, where, with what on standard input; and what becomes of the container when one fails.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::{Bundle, ROOT, USER};

/// Each hook writes a line with its name, where it is, and the state that it was given.
const NAMES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

pub(super) fn tests() -> Vec<Test> {
    let host_tools: &[Need] = &[Need::Root, Need::Rootfs, Need::Program("sh")];
    vec![
        Test { name: "runtime::hooks_run_in_order_and_in_their_namespaces", needs: host_tools, run: order },
        Test {
            name: "runtime::user_hooks_run_in_order_and_in_their_namespaces",
            needs: USER,
            run: |host| order(&host.as_user()),
        },
        Test { name: "runtime::hooks_of_run_are_the_same", needs: ROOT, run: foreground },
        Test { name: "runtime::a_hook_that_fails_ends_the_container", needs: ROOT, run: failing },
        Test {
            name: "runtime::user_a_hook_that_fails_ends_the_container",
            needs: USER,
            run: |host| failing(&host.as_user()),
        },
        Test { name: "runtime::a_hook_has_its_time", needs: ROOT, run: timeout },
        Test { name: "runtime::create_container_hooks_mount_into_the_container", needs: ROOT, run: mounting },
        Test { name: "runtime::a_hook_gets_its_environment_alone", needs: ROOT, run: environment },
    ]
}

/// A hook that appends a line of JSON to `log`. Those inside the container write to the same file, which is mounted there.
fn telling(name: &str, log: &str) -> Value {
    let script = format!(
        r#"state=$(cat); printf '{{"hook":"%s","mnt":"%s","pidns":"%s","cwd":"%s","state":%s}}\n' {name} "$(readlink /proc/self/ns/mnt)" "$(readlink /proc/self/ns/pid)" "$(pwd)" "$state" >> {log}"#
    );
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}

struct Told {
    hooks: Vec<Value>,
}

impl Told {
    fn read(log: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let text = fs::read_to_string(log)?;
        Ok(Self { hooks: text.lines().map(serde_json::from_str).collect::<Result<_, _>>()? })
    }

    fn names(&self) -> Vec<&str> {
        self.hooks.iter().filter_map(|hook| hook["hook"].as_str()).collect()
    }
}

/// A bundle whose hooks all tell in the file `log` of the folder that comes along.
fn telling_bundle<'a>(
    host: &'a Host,
    command: &[&str],
    edit: impl FnOnce(&mut Value),
) -> Result<(Bundle<'a>, std::path::PathBuf), Box<dyn std::error::Error>> {
    let folder = host.new_dir()?;
    let log = folder.join("log");
    let bundle = Bundle::new(host, command, |config| {
        super::bind(config, &folder, "/told", &["rbind"]);
        for name in NAMES {
            let file = if name == "startContainer" { "/told/log".into() } else { log.display().to_string() };
            config["hooks"][name] = json!([telling(name, &file)]);
        }
        config["annotations"] = json!({ "key": "value" });
        edit(config);
    })?;
    Ok((bundle, log))
}

fn order(host: &Host) -> Outcome {
    let (bundle, log) = telling_bundle(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["create", "c"])?.success()?;
    assert_eq!(Told::read(&log)?.names(), NAMES[..3]);
    let pid = bundle.pid("c")?;
    let namespace = |pid: &str, kind: &str| {
        fs::read_link(format!("/proc/{pid}/ns/{kind}")).map(|link| link.display().to_string())
    };
    let (inside, outside) = (namespace(&pid.to_string(), "mnt")?, namespace("self", "mnt")?);
    bundle.call(&["start", "c"])?.success()?;
    assert_eq!(Told::read(&log)?.names(), NAMES[..5]);
    bundle.call(&["delete", "--force", "c"])?.success()?;
    let told = Told::read(&log)?;
    assert_eq!(told.names(), NAMES);
    let bundle_path = fs::canonicalize(&bundle.folder)?;
    let rootfs = bundle.rootfs()?;
    for (hook, (status, in_container, cwd)) in told.hooks.iter().zip([
        ("creating", false, Some(&bundle_path)),
        ("creating", false, Some(&bundle_path)),
        ("creating", true, Some(&rootfs)),
        ("created", true, None),
        ("running", false, Some(&bundle_path)),
        ("stopped", false, Some(&bundle_path)),
    ]) {
        let state = &hook["state"];
        assert_eq!(state["status"], status, "{hook}");
        assert_eq!(state["id"], super::id("c"), "{hook}");
        assert_eq!(state["annotations"]["key"], "value", "{hook}");
        assert_eq!(state["bundle"], json!(bundle_path), "{hook}");
        assert_eq!(hook["mnt"], if in_container { &*inside } else { &*outside }, "{hook}");
        // Each sees the container's process under the number that its own namespace has for it.
        let number = if in_container { 1 } else { pid };
        assert_eq!(state["pid"], if status == "stopped" { 0 } else { number }, "{hook}");
        if let Some(cwd) = cwd {
            assert_eq!(hook["cwd"], json!(cwd), "{hook}");
        }
    }
    Ok(())
}

fn foreground(host: &Host) -> Outcome {
    let (bundle, log) = telling_bundle(host, &["/bin/sh", "-c", "exit 7"], |_| {})?;
    bundle.run()?.expect(7)?;
    assert_eq!(Told::read(&log)?.names(), NAMES);
    assert!(!bundle.state.exists());
    Ok(())
}

fn failing(host: &Host) -> Outcome {
    for failing in NAMES {
        for detached in [true, false] {
            let mark = host.new_dir()?.join("mark");
            let (bundle, log) = telling_bundle(host, &["/bin/sleep", "100"], |config| {
                let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 3"] });
                config["hooks"][failing] = json!([hook, telling("after", &mark.display().to_string())]);
            })?;
            let outcome = |output: tests::Output| {
                let said = output.stderr.contains(&format!("{failing} hook #0"))
                    && output.stderr.contains("the reason");
                assert!(said, "{failing} {detached}: {output:?}");
                output
            };
            if failing == "poststop" {
                // It only warns, and the others are run.
                bundle.call(&["run", "--detach", "c"])?.success()?;
                outcome(bundle.call(&["delete", "--force", "c"])?).success()?;
                assert!(mark.exists());
                continue;
            }
            if !detached {
                outcome(bundle.run()?).expect(1)?;
                assert_eq!(Told::read(&log)?.names().last(), Some(&"poststop"), "{failing}");
            } else if ["startContainer", "poststart"].contains(&failing) {
                bundle.call(&["create", "c"])?.success()?;
                outcome(bundle.call(&["start", "c"])?).expect(1)?;
                tests::wait_until("it stopped", std::time::Duration::from_secs(60), || {
                    bundle.state("c").is_ok_and(|state| state["status"] == "stopped")
                })?;
                bundle.call(&["delete", "c"])?.success()?;
            } else {
                outcome(bundle.call(&["create", "c"])?).expect(1)?;
            }
            assert!(!mark.exists(), "the first that fails is the last");
            assert!(!bundle.state.exists(), "{failing}: nothing is left");
        }
    }
    Ok(())
}

fn timeout(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |config| {
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", "exec sleep 600"], "timeout": 1 });
        config["hooks"]["createRuntime"] = json!([hook]);
    })?;
    // No command may take as long as the hook would.
    let output = bundle.cmd(&["create", "c"]).limit(std::time::Duration::from_secs(120)).run()?.expect(1)?;
    assert!(output.stderr.contains("did not end within 1 s"), "{output:?}");
    Ok(())
}

fn mounting(host: &Host) -> Outcome {
    let given = host.new_dir()?;
    fs::write(given.join("file"), "from the hook")?;
    let rootfs = host.rootfs()?;
    fs::create_dir_all(rootfs.join("given"))?;
    let bundle = Bundle::new(host, &["/bin/cat", "/given/file"], |config| {
        let script = format!("mount --bind {} {}/given", given.display(), rootfs.display());
        let hook =
            json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin:/sbin"] });
        config["hooks"]["createContainer"] = json!([hook]);
    })?;
    assert_eq!(bundle.run()?.success()?.stdout, "from the hook");
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!table.contains(&rootfs.display().to_string()), "the host has not seen it");
    Ok(())
}

fn environment(host: &Host) -> Outcome {
    let out = host.new_dir()?.join("out");
    let bundle = Bundle::new(host, &["/bin/true"], |config| {
        let script = format!("env > {}; ls -l /proc/self/fd >> {}", out.display(), out.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["ONLY=this"] });
        config["hooks"]["prestart"] = json!([hook]);
    })?;
    bundle.cmd(&["run", "c"]).env("SECRET", "x").run()?.success()?;
    let text = fs::read_to_string(out)?;
    assert!(text.contains("ONLY=this") && !text.contains("SECRET"), "{text}");
    // Standard input, output and error, and what ls itself opens.
    let descriptors = text.lines().filter(|line| line.contains(" -> ")).count();
    assert!(descriptors <= 4, "{text}");
    Ok(())
}
