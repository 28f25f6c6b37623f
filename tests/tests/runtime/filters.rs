//! What a filter answers to a call; and an agent outside that is asked.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use tests::{Host, Outcome, Test, wait_until};

use super::{Bundle, ROOT, Result, USER, script, status};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::each_action_of_a_filter", needs: ROOT, run: actions },
        Test { name: "runtime::arguments_of_calls", needs: ROOT, run: arguments },
        Test { name: "runtime::an_agent_decides_on_calls", needs: ROOT, run: agent_decides },
        Test {
            name: "runtime::user_an_agent_decides_on_calls",
            needs: USER,
            run: |host| agent_decides(&host.as_user()),
        },
        Test { name: "runtime::an_agent_is_told_of_exec_and_of_create", needs: ROOT, run: agent_of_exec },
        Test { name: "runtime::no_agent_no_container", needs: ROOT, run: no_agent },
    ]
}

/// A filter that allows everything but making directories.
fn filter(config: &mut Value, mut rule: Value) {
    rule["names"] = json!(["mkdir", "mkdirat"]);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [rule],
    });
}

fn actions(host: &Host) -> Outcome {
    for (rule, code, said) in [
        (json!({ "action": "SCMP_ACT_KILL" }), 159, ""),
        (json!({ "action": "SCMP_ACT_KILL_THREAD" }), 159, ""),
        (json!({ "action": "SCMP_ACT_KILL_PROCESS" }), 159, ""),
        (json!({ "action": "SCMP_ACT_TRAP" }), 159, ""),
        (json!({ "action": "SCMP_ACT_ERRNO" }), 1, "Operation not permitted"),
        (json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }), 1, "No space left on device"),
        // Nobody traces.
        (json!({ "action": "SCMP_ACT_TRACE", "errnoRet": 28 }), 1, "Function not implemented"),
        (json!({ "action": "SCMP_ACT_LOG" }), 0, ""),
        (json!({ "action": "SCMP_ACT_ALLOW" }), 0, ""),
    ] {
        for no_new_privileges in [true, false] {
            let output = script(host, "/bin/mkdir /dev/shm/x; exit $?", |config| {
                config["process"]["noNewPrivileges"] = json!(no_new_privileges);
                filter(config, rule.clone());
            })?;
            assert_eq!(output.code, code, "{rule} {output:?}");
            assert!(output.stderr.contains(said), "{rule} {output:?}");
        }
    }
    let bundle = Bundle::new(host, &["/kit/probe", "syscall", "unshare"], |config| {
        config["linux"]["seccomp"]["defaultErrnoRet"] = json!(28);
    })?;
    assert_eq!(bundle.run()?.json()?["error"], "ENOSPC");
    Ok(())
}

/// A mode of 0700 is refused, by a mask and a value; any other is not.
fn arguments(host: &Host) -> Outcome {
    let output = script(
        host,
        "cd /dev/shm; touch x y; chmod 700 x 2>/dev/null; echo $?; chmod 755 y; echo $?",
        |config| {
            let mask = |index: u32| json!([{ "index": index, "value": 0o777, "valueTwo": 0o700, "op": "SCMP_CMP_MASKED_EQ" }]);
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                { "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": mask(1) },
                { "names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "args": mask(2) },
            ]});
        },
    )?;
    assert_eq!(output.success()?.stdout, "1\n0\n");
    Ok(())
}

/// Refuses the first call, pretends to have carried out the second, lets the kernel carry out the third.
fn agent_decides(host: &Host) -> Outcome {
    for no_new_privileges in [true, false] {
        let folder = host.new_dir()?;
        let told = agent(&folder.join("agent"))?;
        let text = "/bin/mkdir /dev/shm/a || echo refused; /bin/mkdir /dev/shm/b && echo done; /bin/mkdir /dev/shm/c && ls /dev/shm";
        let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["annotations"] = json!({ "org.example.key": "value" });
            filter(config, json!({ "action": "SCMP_ACT_NOTIFY" }));
            config["linux"]["seccomp"]["listenerPath"] = json!(folder.join("agent"));
            config["linux"]["seccomp"]["listenerMetadata"] = json!("for the agent");
            config["linux"]["seccomp"]["flags"] =
                json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
        })?;
        let output = bundle.run()?.success()?;
        assert_eq!(output.stdout, "refused\ndone\nc\n");
        assert!(output.stderr.contains("ross-device link"), "{output:?}");
        let state = told.recv_timeout(SOON)?;
        assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("for the agent")));
        assert_eq!(
            (&state["ociVersion"], &state["pid"]),
            (&state["state"]["ociVersion"], &state["state"]["pid"])
        );
        assert_eq!(
            (&state["state"]["id"], &state["state"]["status"]),
            (&json!(super::id("c")), &json!("creating"))
        );
        assert_eq!(state["state"]["annotations"]["org.example.key"], "value");
        assert_eq!(state["state"]["bundle"], json!(fs::canonicalize(&bundle.folder)?));
    }
    Ok(())
}

fn agent_of_exec(host: &Host) -> Outcome {
    let folder = host.new_dir()?;
    let told = agent(&folder.join("agent"))?;
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |config| {
        config["process"]["noNewPrivileges"] = json!(true);
        filter(config, json!({ "action": "SCMP_ACT_NOTIFY" }));
        config["linux"]["seccomp"]["listenerPath"] = json!(folder.join("agent"));
    })?;
    bundle.call(&["create", "c"])?.success()?;
    let first = told.recv_timeout(SOON)?;
    let pid = bundle.pid("c")?;
    assert_eq!((&first["pid"], &first["state"]["status"]), (&json!(pid), &json!("creating")));
    assert_eq!(status(pid, "Seccomp")?, "2", "loaded before start");
    bundle.call(&["start", "c"])?.success()?;
    wait_until("it runs", SOON, || tests::ask::command_line(pid).starts_with("/bin/sleep"))?;
    let output = bundle.call(&["exec", "c", "/bin/sh", "-c", "/bin/mkdir /dev/shm/a; echo $?"])?.success()?;
    assert_eq!(output.stdout, "1\n");
    let second = told.recv_timeout(SOON)?;
    assert_eq!(second["state"]["status"], "running");
    assert!(second["pid"].as_i64().is_some_and(|other| other > 1 && other != i64::from(pid)), "{second}");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn no_agent(host: &Host) -> Outcome {
    for (path, code, said) in [
        (None, 1, "config: linux.seccomp.listenerPath"),
        (Some("/nowhere/agent"), 1, "connect /nowhere/agent"),
    ] {
        let bundle = Bundle::new(host, &["/bin/true"], |config| {
            filter(config, json!({ "action": "SCMP_ACT_NOTIFY" }));
            config["linux"]["seccomp"]["listenerPath"] = json!(path);
        })?;
        let output = bundle.run()?.expect(code)?;
        assert!(output.stderr.contains(said), "{output:?}");
    }
    Ok(())
}

/// Listens at `path`; tells the messages that come, and answers each container's calls in their turn.
fn agent(path: &Path) -> Result<Receiver<Value>> {
    use std::os::unix::fs::PermissionsExt as _;
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            if let Some(listener) = message(&stream, &sender) {
                std::thread::spawn(move || answer(&listener));
            }
        }
    });
    Ok(receiver)
}

/// One message a connection, which ends with it.
#[allow(unsafe_code)]
fn message(stream: &UnixStream, sender: &Sender<Value>) -> Option<OwnedFd> {
    let mut buffer = vec![0; 1 << 16];
    let mut space = cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received =
        recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    let length = received.bytes;
    let fd = received.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    })?;
    sender.send(serde_json::from_slice(&buffer[..length]).ok()?).ok()?;
    // SAFETY: the kernel has just made this descriptor for this process, and nobody else has its number.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[allow(unsafe_code)]
fn answer(listener: &OwnedFd) {
    let answers = [(-(Errno::EXDEV as i32), 0), (0, 0), (0, 1)];
    for (error, flags) in answers {
        // SAFETY: a struct of integers, for which zero is a value; the kernel wants it zeroed.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the request writes one `seccomp_notif`, which lives until the call returns.
        if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } < 0 {
            return;
        }
        let mut reply = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
        // SAFETY: the request reads one `seccomp_notif_resp`, which lives until the call returns.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut reply) };
    }
}
