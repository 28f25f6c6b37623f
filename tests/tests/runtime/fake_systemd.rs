//! The systemd driver against a manager of our own: a socket that speaks D-Bus, and makes, shows and removes a cgroup.
//!
//! So that it is tried on machines without systemd too, where version 2 is mounted. What the real one makes of it: `systemd`.
//! The bytes are read and written by hand, so that the runtime's own writer is checked by another reader.

mod wire;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Output, Test};
use wire::Call;

use super::{Bundle, Result, id};

pub(super) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::Root, Need::Rootfs, Need::CgroupV2("")];
    let test = |name, run| Test { name, needs: NEEDS, run };
    vec![
        test("runtime::a_manager_makes_and_stops_the_scope", life),
        test("runtime::a_manager_that_fails_leaves_nothing", failures),
        test("runtime::annotations_are_properties_of_the_scope", annotations),
        test("runtime::annotations_that_cannot_be_read_make_no_scope", unreadable),
    ]
}

/// What the manager was asked, and the cgroup that it made.
#[derive(Default)]
struct Manager {
    calls: Vec<Call>,
    /// Whether there is the unit.
    unit: bool,
    /// How its jobs end.
    result: &'static str,
}

struct Bus {
    address: String,
    manager: Arc<Mutex<Manager>>,
}

/// Where the manager makes the scope, below the mount of version 2.
fn scope() -> String {
    format!("/sampan/slice-{}/sampan-c.scope", std::process::id())
}

fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).ok_or("no version 2")?;
    Ok(line.split(' ').nth(4).unwrap_or_default().into())
}

impl Bus {
    fn start(host: &Host, result: &'static str) -> Result<Self> {
        let path = host.new_dir()?.join("bus");
        let listener = UnixListener::bind(&path)?;
        let manager = Arc::new(Mutex::new(Manager { result, ..Manager::default() }));
        let directory = mount_point()?.join(&scope()[1..]);
        let served = Arc::clone(&manager);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that is gone ends its own conversation.
                let _ = serve(stream, &served, &directory);
            }
        });
        Ok(Self { address: format!("unix:path={}", path.display()), manager })
    }

    fn call(&self, bundle: &Bundle<'_>, words: &[&str]) -> Result<Output> {
        bundle.cmd(words).env("DBUS_SYSTEM_BUS_ADDRESS", &self.address).run()
    }

    /// The last call of this method.
    fn last(&self, method: &str) -> Option<Call> {
        let manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner);
        manager.calls.iter().rev().find(|call| call.member == method).cloned()
    }
}

fn serve(mut stream: UnixStream, manager: &Mutex<Manager>, directory: &Path) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    for (said, answer) in
        [("\0AUTH EXTERNAL\r\n", "DATA\r\n"), ("DATA\r\n", "OK 0123456789abcdef\r\n"), ("BEGIN\r\n", "")]
    {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        assert_eq!(line, said);
        stream.write_all(answer.as_bytes())?;
    }
    loop {
        let mut start = [0; 16];
        lines.read_exact(&mut start)?;
        let mut bytes = start.to_vec();
        bytes.resize(wire::length(&start), 0);
        lines.read_exact(&mut bytes[16..])?;
        let call = Call::read(&bytes);
        let mut manager = manager.lock().unwrap_or_else(PoisonError::into_inner);
        manager.calls.push(call.clone());
        let job = "/org/freedesktop/systemd1/job/7";
        let answer = match call.member.as_str() {
            "Hello" => call.answer("s", &wire::text(":1.1")),
            "StartTransientUnit" => {
                fs::create_dir_all(directory)?;
                fs::write(directory.join("cgroup.procs"), call.number("PIDs", "au").to_string())?;
                manager.unit = true;
                call.answer("o", &wire::text(job))
            }
            "StopUnit" => {
                if directory.exists() {
                    fs::remove_dir(directory)?;
                }
                manager.unit = false;
                call.answer("o", &wire::text(job))
            }
            "GetUnit" if manager.unit => call.answer("o", &wire::text("/unit/x")),
            "GetUnit" => call.error("org.freedesktop.systemd1.NoSuchUnit", "not loaded"),
            "Get" => call.answer("v", &wire::variant(&scope())),
            _ => call.answer("", &[]),
        };
        stream.write_all(&answer)?;
        if call.member.ends_with("Unit") && call.member != "GetUnit" {
            // Of somebody else's job first.
            stream.write_all(&wire::job_removed("/org/freedesktop/systemd1/job/6", "failed"))?;
            stream.write_all(&wire::job_removed(job, manager.result))?;
        }
    }
}

fn bundle(host: &Host) -> Result<Bundle<'_>> {
    Bundle::new(host, &["/bin/sleep", "1000"], |config: &mut Value| {
        config["linux"]["cgroupsPath"] = json!("system.slice:sampan:c");
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 33 });
    })
}

/// Removes what is above the scope, which is the real manager's to do.
fn sweep() -> Result<()> {
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines().filter(|it| it.contains(" - cgroup")) {
        let mount = Path::new(line.split(' ').nth(4).unwrap_or_default());
        let _ = Path::new(&scope()[1..]).parent().map(|slice| fs::remove_dir(mount.join(slice)));
    }
    Ok(())
}

fn life(host: &Host) -> Outcome {
    let bus = Bus::start(host, "done")?;
    let bundle = bundle(host)?;
    bus.call(&bundle, &["--systemd-cgroup", "run", "--detach", "c"])?.success()?;
    let asked = bus.last("StartTransientUnit").ok_or("nobody asked for the scope")?;
    assert_eq!(asked.first_text(), "sampan-c.scope");
    assert_eq!(asked.number("MemoryMax", "t"), 64 << 20);
    assert_eq!(asked.number("TasksMax", "t"), 33);
    assert_eq!(asked.number("Delegate", "b"), 1);
    let pid = bundle_pid(&bus, &bundle)?;
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    assert!(own.lines().any(|line| line == format!("0::{}", scope())), "{own}");
    let directory = mount_point()?.join(&scope()[1..]);
    assert_eq!(fs::read_to_string(directory.join("cgroup.procs"))?.trim(), pid.to_string());
    bus.call(&bundle, &["update", "--pids-limit", "44", "c"])?.success()?;
    let told = bus.last("SetUnitProperties").ok_or("nobody told of the update")?;
    assert_eq!((told.first_text(), told.number("TasksMax", "t")), ("sampan-c.scope".to_owned(), 44));
    let output = bus.call(&bundle, &["exec", "c", "/bin/cat", "/proc/self/cgroup"])?.success()?;
    assert!(output.stdout.lines().any(|line| line.starts_with("0::/")), "{output}");
    bus.call(&bundle, &["delete", "--force", "c"])?.success()?;
    assert_eq!(bus.last("StopUnit").map(|call| call.first_text()), Some("sampan-c.scope".to_owned()));
    assert!(!directory.exists());
    sweep()
}

fn annotations(host: &Host) -> Outcome {
    let bus = Bus::start(host, "done")?;
    let bundle = bundle(host)?;
    bundle.rewrite(&["/bin/true"], |config: &mut Value| {
        config["linux"]["cgroupsPath"] = json!("system.slice:sampan:c");
        config["linux"]["resources"]["pids"] = json!({ "limit": 33 });
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "uint32 7",
            "org.systemd.property.RuntimeMaxUSec": "uint64 5",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.SendSIGHUP": "true",
            "org.systemd.property.KillSignal": "15",
            "org.systemd.property.After": "['a.service','b.service']",
            "org.systemd.property.TasksMax": "uint64 44",
            "org.example.other": "not for systemd",
        });
    })?;
    bus.call(&bundle, &["--systemd-cgroup", "run", "c"])?.success()?;
    let asked = bus.last("StartTransientUnit").ok_or("nobody asked for the scope")?;
    for (name, kind, number) in [
        ("TimeoutStopUSec", "t", 7_000_000),
        ("RuntimeMaxUSec", "t", 5),
        ("SendSIGHUP", "b", 1),
        ("KillSignal", "i", 15),
    ] {
        assert_eq!(asked.number(name, kind), number, "{name}");
    }
    assert_eq!(asked.texts("CollectMode", "s"), ["inactive-or-failed"]);
    assert_eq!(asked.texts("After", "as"), ["a.service", "b.service"]);
    // Of two of one name the later one counts for systemd.
    assert_eq!((asked.number("TasksMax", "t"), asked.last_number("TasksMax", "t")), (33, 44));
    sweep()
}

fn unreadable(host: &Host) -> Outcome {
    let bus = Bus::start(host, "done")?;
    let bundle = bundle(host)?;
    for (name, text, said) in [
        ("CollectMode", "inactive", "a text is in quotes"),
        ("CollectMode", "'inactive", "a text that does not end"),
        ("TasksMax", "uint64 -1", "no value of type t"),
        ("TimeoutStopSec", "'soon'", "seconds are a number"),
        ("Tasks Max", "uint64 1", "three letters or more, and nothing else"),
    ] {
        bundle.rewrite(&["/bin/true"], |config: &mut Value| {
            config["linux"]["cgroupsPath"] = json!("system.slice:sampan:c");
            config["annotations"] = json!({ format!("org.systemd.property.{name}"): text });
        })?;
        let output = bus.call(&bundle, &["--systemd-cgroup", "run", "c"])?.expect(1)?;
        let field = format!("config: annotations org.systemd.property.{name}: ");
        assert!(output.stderr.contains(&field) && output.stderr.contains(said), "{output}");
        assert!(bus.last("StartTransientUnit").is_none());
        bus.call(&bundle, &["state", "c"])?.expect(1)?;
    }
    // They are systemd's alone.
    bundle.rewrite(&["/bin/true"], |config: &mut Value| {
        config["annotations"] = json!({ "org.systemd.property.X": "nonsense" });
    })?;
    bundle.run()?.success()?;
    Ok(())
}

fn bundle_pid(bus: &Bus, bundle: &Bundle<'_>) -> Result<i64> {
    let state = bus.call(bundle, &["state", "c"])?.success()?.json()?;
    Ok(state["pid"].as_i64().ok_or("no pid")?)
}

fn failures(host: &Host) -> Outcome {
    let bus = Bus::start(host, "failed")?;
    let bundle = bundle(host)?;
    let output = bus.call(&bundle, &["--systemd-cgroup", "run", "c"])?.expect(1)?;
    let said = "StartTransientUnit sampan-c.scope: the job ended with \"failed\"";
    assert!(output.stderr.contains(said), "{output}");
    let directory = mount_point()?.join(&scope()[1..]);
    assert_eq!(fs::read_to_string(directory.join("cgroup.procs"))?, "", "nobody is left in the scope");
    bus.call(&bundle, &["state", "c"])?.expect(1)?;
    fs::remove_dir(directory)?;
    sweep()?;
    // Nobody is there.
    let missing = host.new_dir()?.join("none");
    let address = format!("unix:path={}", missing.display());
    let words = ["--systemd-cgroup", "run", "c"];
    let output = bundle.cmd(&words).env("DBUS_SYSTEM_BUS_ADDRESS", address).run()?.expect(1)?;
    assert!(output.stderr.contains("cannot reach the system's message bus at unix:path="), "{output}");
    assert!(output.stderr.contains("leave out --systemd-cgroup"), "{output}");
    // It answers the authentication, and then falls silent.
    let path = host.new_dir()?.join("deaf");
    let listener = UnixListener::bind(&path)?;
    thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let address = format!("unix:path={}", path.display());
    bundle.cmd(&words).env("DBUS_SYSTEM_BUS_ADDRESS", address).run()?.expect(1)?;
    assert!(!Path::new("/proc").join(id("c")).exists());
    Ok(())
}
