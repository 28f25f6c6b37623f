//! What the library promises to those who use it without the binary: the engine's runtime, and later chapters.
//!
//! As root, or as an ordinary user in a user namespace.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;

use namespaces::{Config, Created, Error, ExitStatus, Join, Kind, Maps, StageError, TimeOffset, spawn};
use nix::unistd::{Pid, execve};
use step::StepError;

/// One after another, for each clones the thread that calls.
#[test]
fn the_library_keeps_its_promises() {
    clocks_are_set_ahead().unwrap();
    an_error_comes_back_whole().unwrap();
    a_panic_does_not_run_on().unwrap();
    who_is_dropped_ends().unwrap();
    a_namespace_is_joined_by_its_descriptor().unwrap();
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn config(kinds: &[Kind]) -> Config {
    let mut new = kinds.to_vec();
    let mut maps = Maps::default();
    if !nix::unistd::geteuid().is_root() {
        new.push(Kind::User);
        maps = Maps::for_this_user();
    }
    Config { new, uid_map: maps.uid, gid_map: maps.gid, die_with_parent: true, ..Config::default() }
}

fn shell(script: &str) -> Result<Infallible, StageError> {
    let text = |text: &str| CString::new(text).expect("no NUL byte");
    let args = [text("sh"), text("-c"), text(script)];
    execve(&text("/bin/sh"), &args, &[text("PATH=/bin:/usr/bin")])
        .map_err(|errno| StepError::new("execve", "/bin/sh", errno).into())
}

fn run(created: Created) -> Result<ExitStatus, Error> {
    created.proceed().and_then(namespaces::Running::wait)
}

fn clocks_are_set_ahead() -> Outcome {
    let mut config = config(&[Kind::Time]);
    config.time_offsets.push(TimeOffset { clock: "boottime", seconds: 50_000_000, nanoseconds: 0 });
    let script = "read up idle < /proc/uptime; [ ${up%.*} -gt 50000000 ] && exit 42";
    assert_eq!(run(spawn(&config, |_| shell(script))?)?, ExitStatus::Exited(42));
    assert!(
        !fs::read_to_string("/proc/self/timens_offsets")?.contains("50000000"),
        "the caller's clocks stay"
    );
    Ok(())
}

fn an_error_comes_back_whole() -> Outcome {
    let created = spawn(&config(&[Kind::Uts]), |end| {
        end.wait_to_proceed()?;
        fs::read("/no/such").map(drop).map_err(|error| StepError::new("open", "/no/such", error))?;
        shell("true")
    });
    let Err(Error::Init(error)) = created?.proceed() else { panic!("no error") };
    assert_eq!(
        (error.stage(), error.exit_code(), error.to_string().as_str()),
        ("open", 125, "open /no/such")
    );
    Ok(())
}

fn a_panic_does_not_run_on() -> Outcome {
    std::panic::set_hook(Box::new(|_| ()));
    let created = spawn(&config(&[Kind::Uts]), |_| panic!("in the init process"))?;
    let _ = std::panic::take_hook();
    assert_eq!(run(created)?, ExitStatus::Exited(125));
    Ok(())
}

fn who_is_dropped_ends() -> Outcome {
    let mut created = spawn(&config(&[Kind::Pid, Kind::Mount]), |end| {
        end.ready()?;
        end.wait_to_proceed()?;
        shell("exit 1")
    })?;
    created.wait_ready()?;
    let pid = created.pid();
    drop(created);
    assert!(matches!(nix::sys::wait::waitpid(pid, None), Ok(nix::sys::wait::WaitStatus::Exited(_, 125))));
    spawn(&config(&[Kind::Pid]), |end| {
        end.wait_to_proceed()?;
        shell("exit 1")
    })?
    .abort()?;
    Ok(())
}

fn inode(pid: Pid, kind: Kind) -> std::io::Result<String> {
    Ok(fs::read_link(format!("/proc/{pid}/ns/{}", kind.proc_name()))?.display().to_string())
}

/// As a container that shares another's network: `--network container:ID`.
fn a_namespace_is_joined_by_its_descriptor() -> Outcome {
    let first = spawn(&config(&[Kind::Network, Kind::Ipc]), |end| {
        end.wait_to_proceed()?;
        shell("true")
    })?;
    let open = |kind: Kind| -> std::io::Result<OwnedFd> {
        Ok(fs::File::open(format!("/proc/{}/ns/{}", first.pid(), kind.proc_name()))?.into())
    };
    let before = inode(nix::unistd::getpid(), Kind::Network)?;
    let root = nix::unistd::geteuid().is_root();
    let mut join = vec![Join { kinds: vec![Kind::Network], fd: open(Kind::Network)? }];
    if !root {
        join.insert(0, Join { kinds: vec![Kind::User], fd: open(Kind::User)? });
    }
    let both = Config { new: vec![Kind::Pid, Kind::Ipc], join, die_with_parent: true, ..Config::default() };
    let second = spawn(&both, |end| {
        end.ready()?;
        end.wait_to_proceed()?;
        shell("exit 7")
    });
    let second = second?;
    // Until its exec nobody but root may look at a process that joined.
    if root {
        assert_eq!(inode(second.pid(), Kind::Network)?, inode(first.pid(), Kind::Network)?);
        assert_eq!(inode(second.pid(), Kind::User)?, inode(first.pid(), Kind::User)?);
        assert_ne!(inode(second.pid(), Kind::Ipc)?, inode(first.pid(), Kind::Ipc)?);
        assert_ne!(inode(second.pid(), Kind::Pid)?, inode(first.pid(), Kind::Pid)?);
    }
    assert_eq!(inode(nix::unistd::getpid(), Kind::Network)?, before, "the caller stays");
    assert_eq!(run(second)?, ExitStatus::Exited(7));
    first.abort()?;
    Ok(())
}
