//! What reaches the host's NOTIFY_SOCKET of a container's sd_notify(3): that it is ready, once, in the runtime's words.
//!
//! The host's side is the test itself; inside, the probe sends, a descriptor with each message.

use std::io::{ErrorKind, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use std::{fs, thread};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use tests::process::Cmd;
use tests::{Host, Outcome, Test, wait_until};

use super::{Bundle, ROOT, Result, USER, bind};

const SOON: Duration = Duration::from_secs(20);
const VARIABLE: &str = "NOTIFY_SOCKET";
/// All of them before the one that counts; the last is longer than any message of systemd's.
const HOSTILE: &str = "/kit/probe notify MAINPID=1 'FDSTORE=1\\nFDNAME=x' READY=0 READY=11 ' READY=1' 'STATUS=READY=1' \
     \"$(head -c 5000 /dev/zero | tr '\\0' x)\\nREADY=1\" ''";
const READY: &str = "/kit/probe notify 'STATUS=up\\nREADY=1\\nMAINPID=1' READY=1 STOPPING=1; ";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::a_container_says_that_it_is_ready", needs: ROOT, run: detached },
        Test {
            name: "runtime::user_a_container_says_that_it_is_ready",
            needs: USER,
            run: |host| detached(&host.as_user()),
        },
        Test { name: "runtime::in_the_foreground_readiness_is_the_runtimes", needs: ROOT, run: foreground },
        Test { name: "runtime::a_container_that_ends_was_not_ready", needs: ROOT, run: ends },
        Test { name: "runtime::nobody_goes_before_the_host_has_read", needs: ROOT, run: barrier },
        Test { name: "runtime::readiness_of_another_users_namespace", needs: ROOT, run: shifted },
        Test { name: "runtime::who_is_to_be_told_must_be_there", needs: ROOT, run: nobody },
        Test { name: "runtime::an_engines_own_relay_stays", needs: ROOT, run: engines },
    ]
}

/// The host's socket.
struct Listener {
    socket: UnixDatagram,
    name: String,
}

/// A message, and how many descriptors came with it. They are closed when this is dropped.
struct Heard {
    text: String,
    fds: Vec<OwnedFd>,
}

impl Listener {
    fn new(host: &Host, is_abstract: bool) -> Result<Self> {
        let path = host.new_dir()?.join("host");
        let (socket, name) = if is_abstract {
            let name = format!("sampan-test-{}", std::process::id());
            (UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?, format!("@{name}"))
        } else {
            let socket = UnixDatagram::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
            (socket, path.display().to_string())
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket, name })
    }

    fn cmd(&self, bundle: &Bundle<'_>, words: &[&str]) -> Cmd {
        bundle.cmd(words).env(VARIABLE, &self.name)
    }

    /// The next message, if it is there.
    #[allow(unsafe_code)]
    fn next(&self) -> Result<Option<Heard>> {
        let mut buffer = vec![0; 1 << 16];
        let mut space = cmsg_space!([i32; 8]);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(errno) if std::io::Error::from(errno).kind() == ErrorKind::WouldBlock => return Ok(None),
            other => other?,
        };
        let length = received.bytes;
        let mut fds = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(list) = message {
                // SAFETY: the kernel has just made these descriptors for this process, and nobody else has their numbers.
                fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Ok(Some(Heard { text: String::from_utf8_lossy(&buffer[..length]).into_owned(), fds }))
    }

    fn wait(&self) -> Result<Heard> {
        let mut heard = None;
        wait_until("a message", SOON, || {
            heard = self.next().ok().flatten();
            heard.is_some()
        })?;
        heard.ok_or_else(|| "no message".into())
    }

    fn is_silent(&self) -> Result<bool> {
        Ok(self.next()?.is_none())
    }
}

/// A bundle of a container that tries all that it should not, writes "hostile", waits for the file "go", and is ready; then it
/// writes what became of that.
fn bundle<'a>(host: &'a Host, edit: impl FnOnce(&mut Value)) -> Result<Bundle<'a>> {
    let text = format!(
        "{HOSTILE}; touch /mark/hostile; until [ -e /mark/go ]; do sleep 0.05; done; {READY}
         until /kit/probe notify STATUS=late | grep -q ECONNREFUSED; do sleep 0.05; done; touch /mark/late; exec sleep 1000"
    );
    let bundle = Bundle::new(host, &["/bin/sh", "-c", &text], |_| {})?;
    let mark = bundle.folder.join("mark");
    fs::create_dir(&mark)?;
    fs::set_permissions(&mark, fs::Permissions::from_mode(0o777))?;
    bundle.rewrite(&["/bin/sh", "-c", &text], |config| {
        bind(config, &mark, "/mark", &["rbind"]);
        edit(config);
    })?;
    Ok(bundle)
}

fn marked(bundle: &Bundle<'_>, name: &str) -> Outcome {
    let path = bundle.folder.join("mark").join(name);
    wait_until(name, SOON, || path.exists())
}

fn go(bundle: &Bundle<'_>) -> Outcome {
    Ok(fs::write(bundle.folder.join("mark/go"), "")?)
}

/// Started, and left behind when it is ready.
fn told(host: &Host, listener: &Listener, words: &[&str], edit: impl FnOnce(&mut Value)) -> Outcome {
    let bundle = bundle(host, edit)?;
    if words[0] == "start" {
        listener.cmd(&bundle, &["create", "c"]).run()?.success()?;
        assert_eq!(bundle.state("c")?["status"], "created");
    }
    let mut runtime = listener.cmd(&bundle, words).spawn()?;
    marked(&bundle, "hostile").map_err(|error| format!("{error}: {}", runtime.stderr()))?;
    thread::sleep(Duration::from_millis(300));
    assert!(listener.is_silent()? && !runtime.ended(), "{}", runtime.stderr());
    go(&bundle)?;
    let heard = listener.wait()?;
    let pid = bundle.pid("c")?;
    assert_eq!((heard.text, heard.fds.len()), (format!("MAINPID={pid}\nREADY=1"), 0));
    let heard = listener.wait()?;
    assert_eq!((heard.text.as_str(), heard.fds.len()), ("BARRIER=1", 1));
    drop(heard.fds);
    runtime.wait()?.success()?;
    marked(&bundle, "late")?;
    assert!(listener.is_silent()?);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let line = mounts.lines().find(|line| line.contains(" /run/notify ")).ok_or("no /run/notify")?;
    let options = line.split(' ').nth(5).unwrap_or_default();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.split(',').any(|it| it == option), "{line}");
    }
    let inside =
        bundle.call(&["exec", "c", "/bin/sh", "-c", "echo $NOTIFY_SOCKET; ls -a /run/notify"])?.success()?;
    assert_eq!(inside.stdout, "/run/notify/notify.sock\n.\n..\nnotify.sock\n");
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn detached(host: &Host) -> Outcome {
    for (is_abstract, words) in
        [(false, &["run", "--detach", "c"][..]), (true, &["run", "--detach", "c"]), (false, &["start", "c"])]
    {
        told(host, &Listener::new(host, is_abstract)?, words, |_| {})?;
    }
    Ok(())
}

/// Root inside is somebody else outside, and the program nobody.
fn shifted(host: &Host) -> Outcome {
    let rootfs = host.new_dir()?.join("rootfs");
    tests::tree::copy(&host.rootfs()?, &rootfs, Some((100_000, 100_000)))?;
    told(host, &Listener::new(host, false)?, &["run", "--detach", "c"], |config| {
        let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["uidMappings"] = ids.clone();
        config["linux"]["gidMappings"] = ids;
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        config["root"]["path"] = json!(rootfs);
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.push(json!({ "type": "user" }));
        }
    })
}

fn foreground(host: &Host) -> Outcome {
    let listener = Listener::new(host, false)?;
    let bundle = bundle(host, |_| {})?;
    let mut runtime = listener.cmd(&bundle, &["run", "c"]).spawn()?;
    marked(&bundle, "hostile")?;
    thread::sleep(Duration::from_millis(300));
    assert!(listener.is_silent()?);
    go(&bundle)?;
    let heard = listener.wait()?;
    assert_eq!((heard.text, heard.fds.len()), (format!("MAINPID={}\nREADY=1", runtime.pid()), 0));
    marked(&bundle, "late")?;
    assert!(listener.is_silent()? && !runtime.ended());
    bundle.call(&["kill", "c", "KILL"])?.success()?;
    runtime.wait()?.expect(137)?;
    assert!(listener.is_silent()?);
    // Its last word comes before its end.
    bundle.rewrite(&["/kit/probe", "notify", "READY=1"], |_| {})?;
    let runtime = listener.cmd(&bundle, &["run", "c"]).spawn()?;
    let pid = runtime.pid();
    runtime.wait()?.success()?;
    assert_eq!(listener.wait()?.text, format!("MAINPID={pid}\nREADY=1"));
    Ok(())
}

fn ends(host: &Host) -> Outcome {
    let listener = Listener::new(host, false)?;
    let bundle = Bundle::new(host, &["/bin/sh", "-c", "sleep 0.3; exit 7"], |_| {})?;
    listener.cmd(&bundle, &["run", "c"]).run()?.expect(7)?;
    listener.cmd(&bundle, &["run", "--detach", "c"]).run()?.success()?;
    assert_eq!(bundle.state("c")?["status"], "stopped");
    bundle.call(&["delete", "c"])?.success()?;
    listener.cmd(&bundle, &["create", "c"]).run()?.success()?;
    listener.cmd(&bundle, &["start", "c"]).run()?.success()?;
    bundle.call(&["delete", "c"])?.success()?;
    assert!(listener.is_silent()?);
    assert_eq!(fs::read_dir(&bundle.state).map_or(0, Iterator::count), 0);
    Ok(())
}

fn barrier(host: &Host) -> Outcome {
    let listener = Listener::new(host, false)?;
    let bundle = Bundle::new(host, &["/bin/sh", "-c", "/kit/probe notify READY=1; exec sleep 1000"], |_| {})?;
    let mut runtime = listener.cmd(&bundle, &["run", "--detach", "c"]).spawn()?;
    assert!(listener.wait()?.text.ends_with("READY=1"));
    let barrier = listener.wait()?;
    thread::sleep(Duration::from_millis(500));
    assert!(!runtime.ended());
    drop(barrier);
    runtime.wait()?.success()?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    Ok(())
}

fn nobody(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    let gone = host.new_dir()?.join("gone").display().to_string();
    for (name, said) in [
        ("host", "NOTIFY_SOCKET is \"host\": a path, or @ and the name of an abstract socket"),
        ("vsock:2:1", "a path, or @"),
        (&*gone, "connect NOTIFY_SOCKET: ENOENT"),
        ("@sampan-test-nobody", "connect NOTIFY_SOCKET: ECONNREFUSED"),
    ] {
        let output = bundle.cmd(&["run", "c"]).env(VARIABLE, name).run()?.expect(1)?;
        assert!(output.stderr.contains(said), "{output}");
        bundle.call(&["state", "c"])?.expect(1)?;
    }
    // Made for somebody who is no longer there: it can be started later, or without.
    bundle.cmd(&["create", "c"]).env(VARIABLE, &gone).run()?.success()?;
    bundle.cmd(&["start", "c"]).env(VARIABLE, &gone).run()?.expect(1)?;
    assert_eq!(bundle.state("c")?["status"], "created");
    bundle.call(&["start", "c"])?.success()?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    // Made for nobody.
    let listener = Listener::new(host, false)?;
    bundle.call(&["create", "c"])?.success()?;
    listener.cmd(&bundle, &["start", "c"]).run()?.success()?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    // An empty one is none.
    let output = bundle.cmd(&["run", "c"]).env(VARIABLE, "").run()?.success()?;
    assert_eq!(output.stderr, "");
    Ok(())
}

fn engines(host: &Host) -> Outcome {
    let relay = Listener::new(host, false)?;
    let listener = Listener::new(host, false)?;
    let bundle = Bundle::new(host, &["/kit/probe", "notify", "READY=1"], |config| {
        let folder = std::path::Path::new(&relay.name).parent().unwrap_or_else(|| "/".as_ref());
        bind(config, folder, "/run/notify", &["bind"]);
        if let Some(env) = config["process"]["env"].as_array_mut() {
            env.push(json!("NOTIFY_SOCKET=/run/notify/host"));
        }
    })?;
    listener.cmd(&bundle, &["run", "c"]).run()?.success()?;
    assert_eq!(relay.wait()?.text, "READY=1");
    assert!(listener.is_silent()?);
    Ok(())
}
