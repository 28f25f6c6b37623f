//! A network for an ordinary user, who may make no bridge.
//!
//! A user namespace gives its root every right over the network namespaces in it, and none over the host's: one end of a cable is
//! his, the other may not be plugged in anywhere. What an ordinary user may do is open sockets. So a helper takes the packets out
//! of the container by a TAP link, and does in its own name what they ask for: `pasta` copies connections to sockets of the
//! host, `slirp4netns` has a TCP/IP stack of its own. A published port is then a socket on which the helper listens.
//!
//! What they require: 1. one of the two programs; 2. `/dev/net/tun` readable and writable; 3. that the container's process exists,
//! for its namespaces are entered by its pid.
//!
//! What is switched off: 4. both can lead the container to the host's own 127.0.0.1, and are told not to.
//!
//! The helper must go when this process goes, however it goes, but entering a user namespace makes the kernel forget
//! `PR_SET_PDEATHSIG`, which it is asked for first. So a *keeper* waits at a pipe whose other end this process holds: end of file means that it is gone, and
//! the keeper kills the helper.
//!
//! See pasta(1), slirp4netns(1), user_namespaces(7).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal};
use step::{StepError, step};

use crate::ports::{Protocol, PublishedPort};
use crate::{Error, inside};

/// How long a helper may take until the container has its network.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that gives an ordinary user's container a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// pasta, of the passt project.
    Pasta,
    /// slirp4netns.
    Slirp4netns,
}

impl Program {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// The server that it offers for names; pasta leaves it to the host's.
    pub fn name_server(self) -> Option<Ipv4Addr> {
        (self == Self::Slirp4netns).then_some(Ipv4Addr::new(10, 0, 2, 3))
    }
}

/// The helper that this host has.
///
/// # Errors
/// A sentence that says what is missing.
pub fn find() -> Result<Program, String> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        return Err(format!(
            "/dev/net/tun: {error} (`sudo chmod 666 /dev/net/tun`, as distributions have it)"
        ));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there =
        |program: &Program| std::env::split_paths(&path).any(|dir| dir.join(program.name()).is_file());
    [Program::Pasta, Program::Slirp4netns]
        .into_iter()
        .find(there)
        .ok_or_else(|| "neither pasta nor slirp4netns is installed (`sudo apt install passt`)".to_owned())
}

/// A running helper.
#[derive(Debug)]
pub struct Helper {
    program: Program,
    child: Child,
    /// The keeper's, and the end of the pipe that it waits at. None once the helper is stopped.
    keeper: (Pid, OwnedFd),
}

/// Starts the helper for the network namespace of `pid`, and waits until the container is connected. Files are made in
/// `directory`, which the caller removes.
///
/// # Errors
/// [`Error::Helper`] with the helper's words.
// ANCHOR: helper
pub fn start(program: Program, pid: Pid, ports: &[PublishedPort], directory: &Path) -> Result<Helper, Error> {
    let ready = directory.join("helper");
    let log = directory.join("helper.log");
    let args = match program {
        Program::Pasta => pasta(pid, ports, &ready),
        Program::Slirp4netns => slirp4netns(pid, &ready),
    };
    let why = "an ordinary user may open sockets: the helper turns packets into those";
    let child = step("execve", format_args!("{} {}", program.name(), args.join(" ")), why).run(|| {
        let log = File::create(&log)?;
        let mut command = Command::new(program.name());
        command.args(&args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        ends_with_parent(&mut command).spawn()
    })?;
    let mut helper = Helper { program, keeper: keeper(&child)?, child };
    let outcome = helper.wait_ready(pid, &ready, &log).and_then(|()| match program {
        Program::Pasta => Ok(()),
        Program::Slirp4netns => ports.iter().try_for_each(|port| forward(port, &ready)),
    });
    match outcome {
        Ok(()) => Ok(helper),
        Err(error) => {
            helper.stop()?;
            Err(error)
        }
    }
}
// ANCHOR_END: helper

impl Helper {
    fn wait_ready(&mut self, pid: Pid, ready: &Path, log: &Path) -> Result<(), Error> {
        let words = |log: &Path| {
            let text = fs::read_to_string(log).unwrap_or_default();
            text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word of why").trim().to_owned()
        };
        let program = self.program.name();
        let begun = Instant::now();
        loop {
            let written =
                fs::metadata(ready).is_ok_and(|file| self.program != Program::Pasta || file.len() > 0);
            if written && has_default_route(pid) {
                return Ok(());
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(Error::Helper { program, reason: words(log) });
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Helper {
                    program,
                    reason: format!("not ready after 20 s ({})", words(log)),
                });
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Ends the helper, and waits until it is gone.
    ///
    /// # Errors
    /// The step.
    pub fn stop(mut self) -> Result<(), Error> {
        let (pid, pipe) = self.keeper;
        step("kill", format_args!("{} SIGKILL", self.program.name()), "its container has ended")
            .run(|| self.child.kill().and_then(|()| self.child.wait()))?;
        drop(pipe);
        // The keeper finds nobody to kill, and ends.
        nix::sys::wait::waitpid(pid, None).map_err(|errno| StepError::new("waitpid", pid, errno))?;
        Ok(())
    }
}

/// A default route in the namespace of `pid` is the last thing that a helper makes there.
fn has_default_route(pid: Pid) -> bool {
    let routes = fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap_or_default();
    routes.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

fn pasta(pid: Pid, ports: &[PublishedPort], ready: &Path) -> Vec<String> {
    let list = |protocol: Protocol| {
        let ports = ports.iter().filter(|port| port.protocol == protocol);
        let specs: Vec<_> = ports
            .map(|port| {
                let on =
                    if port.host_ip.is_unspecified() { String::new() } else { format!("{}/", port.host_ip) };
                format!("{on}{}:{}", port.host_port, port.container_port)
            })
            .collect();
        specs
    };
    let fixed = "--config-net --foreground --no-map-gw --ipv4-only --tcp-ns none --udp-ns none --ns-ifname";
    let mut args: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
    args.push(inside::NAME.to_owned());
    for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let specs = list(protocol);
        // One option for each port: an address before a port holds for all behind it.
        for spec in if specs.is_empty() { vec!["none".to_owned()] } else { specs } {
            args.extend([option.to_owned(), spec]);
        }
    }
    args.extend(["--pid".to_owned(), ready.display().to_string(), pid.to_string()]);
    args
}

fn slirp4netns(pid: Pid, socket: &Path) -> Vec<String> {
    let socket = format!("--api-socket={}", socket.display());
    let args =
        ["--configure", "--mtu=65520", "--disable-host-loopback", &socket, &pid.to_string(), inside::NAME];
    args.map(str::to_owned).to_vec()
}

/// Asks slirp4netns for a port. Its language is JSON; the question has one form, so it is written as it is.
fn forward(port: &PublishedPort, socket: &Path) -> Result<(), Error> {
    let question = format!(
        r#"{{"execute":"add_hostfwd","arguments":{{"proto":"{}","host_addr":"{}","host_port":{},"guest_port":{}}}}}"#,
        port.protocol, port.host_ip, port.host_port, port.container_port
    );
    let answer =
        step("connect", format_args!("{} {question}", socket.display()), "a socket on which it listens")
            .run(|| {
                let mut api = UnixStream::connect(socket)?;
                api.write_all(question.as_bytes())?;
                api.shutdown(Shutdown::Write)?;
                let mut answer = String::new();
                api.read_to_string(&mut answer)?;
                Ok::<_, std::io::Error>(answer)
            })?;
    if answer.contains("\"error\"") {
        return Err(Error::Helper {
            program: "slirp4netns",
            reason: format!("port {port}: {}", answer.trim()),
        });
    }
    Ok(())
}

/// Has the command killed when this process ends: until it enters a user namespace that holds, and then there is a keeper.
#[allow(unsafe_code)]
fn ends_with_parent(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        if getppid() == parent { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec it makes two system calls, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) }
}

/// Starts the keeper, and gives its pid and the end of the pipe whose closing lets it act.
fn keeper(helper: &Child) -> Result<(Pid, OwnedFd), StepError> {
    let pid = rustix::process::Pid::from_child(helper);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| StepError::new("pidfd_open", helper.id(), errno))?;
    let (waits, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| StepError::new("pipe2", "", errno))?;
    let why = "it waits until this process is gone, and then ends the helper";
    let keeper = step("fork", format_args!("keeper"), why).run(|| fork_keeper(&waits, &pidfd))?;
    Ok((keeper, ours))
}

#[allow(unsafe_code)]
fn fork_keeper(waits: &OwnedFd, helper: &OwnedFd) -> Result<Pid, nix::Error> {
    // SAFETY: the child allocates nothing and takes no lock: it makes only the four kinds of system calls below, and ends by
    // _exit. So it does not matter what another thread of this process was doing at the moment of the fork.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            // All else must be closed: a copy of the init process's socket would hide from it that this process is gone.
            // SAFETY: the three numbers are descriptors of this process, which uses none but 0 and 1 from here on.
            unsafe {
                libc::dup2(waits.as_raw_fd(), 100);
                libc::dup2(helper.as_raw_fd(), 101);
                libc::close_range(0, 99, 0);
                libc::close_range(102, u32::MAX, 0);
            }
            // SAFETY: both were just made and nobody else in this process knows them.
            let (waits, helper) = unsafe {
                use std::os::fd::FromRawFd;
                (OwnedFd::from_raw_fd(100), OwnedFd::from_raw_fd(101))
            };
            while rustix::io::read(&waits, &mut [0; 1]).is_err_and(|errno| errno == rustix::io::Errno::INTR) {
            }
            let _ = pidfd_send_signal(&helper, Signal::KILL);
            // SAFETY: ends this process at once, as a fork must.
            unsafe { libc::_exit(0) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasta_gets_each_port_and_no_way_to_the_hosts_loopback() {
        let ports: Vec<PublishedPort> =
            ["8080:80", "127.0.0.1:8081:81", "53:53/udp"].map(|text| text.parse().unwrap()).to_vec();
        let args = pasta(Pid::from_raw(7), &ports, Path::new("/tmp/x")).join(" ");
        assert!(
            args.contains("--tcp-ports 8080:80 --tcp-ports 127.0.0.1/8081:81 --udp-ports 53:53"),
            "{args}"
        );
        assert!(
            args.contains("--no-map-gw") && args.contains("--tcp-ns none") && args.ends_with(" 7"),
            "{args}"
        );
    }

    #[test]
    fn the_keeper_ends_the_helper_when_the_pipe_closes() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (pid, pipe) = keeper(&child).unwrap();
        assert!(matches!(child.try_wait(), Ok(None)));
        drop(pipe);
        nix::sys::wait::waitpid(pid, None).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
