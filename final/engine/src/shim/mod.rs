//! The shim: the one process that holds one container.
//!
//! It makes the container, owns its streams, writes its log, waits for its end and gives back what it held, in this order:
//!
//! 1. its mark, `<run>/ID/shim.json`, by which everybody knows whose the rest is;
//! 2. the image's layers, the user, the files that the engine writes into every container;
//! 3. an address, for a container on the bridge;
//! 4. namespaces and cgroup ([`sampan_runtime::create()`]); the init process mounts while this one makes the network link;
//! 5. the start; `running` is written down, and the client told;
//! 6. the streams, until the process ends ([`streams`]);
//! 7. back in reverse: link rules, cgroup, run folder; then `exited` is written, and with `--rm` all of it removed.
//!
//! It has one thread, because it clones into the container, and a session of its own, so that a Ctrl-C at a client's terminal
//! is the client's to pass on. Its death is its container's: see [`crate::Engine::container`] for what repairs the rest.

mod limits;
pub mod log;
pub mod resources;
pub mod streams;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::network::Link;
use ::network::rootless::Helper;
use jiff::Timestamp;
use nix::unistd::setsid;
use sampan_runtime::{Create, Started, Stdio, WindowSize};
use step::{StepError, step};

use crate::attach::{Frame, send};
use crate::container::{Config, Container, State, Status};
use crate::paths::make_private;
use crate::process::Identity;
use crate::store::{Durability, Lock, write_json};
use crate::{Engine, Error, network};

use log::Log;
use resources::Prepared;
use streams::{Ends, Rest, Streams};

/// The socket of a running container, in its run folder.
pub const SOCKET: &str = "shim.sock";

/// Holds the container `id` from its start to its end. Standard input is the socket of the client that wants it.
pub fn hold(engine: &Engine, id: &str) -> ExitCode {
    step::speaker("shim");
    let client = first_client();
    let started = lock(engine, id).and_then(|(lock, container)| {
        let copy = (container.config.clone(), container.folder.clone());
        let held = start(engine, container).map_err(|error| record_failure(engine, copy, error));
        drop(lock);
        held
    });
    match started {
        Ok(held) => {
            // Without its client it is a detached container like any other.
            let _ = client
                .as_ref()
                .map(|client| send(client, &Frame::Started(held.link.notice.clone().unwrap_or_default())));
            held.until_its_end(engine, client)
        }
        Err(error) => {
            let report = step::report(&error, &crate::hints());
            let _ = client.map(|client| send(&client, &Frame::Failed(error.exit_code(), report)));
            ExitCode::from(error.exit_code())
        }
    }
}

/// A container that runs, with all that must be given back.
struct Held {
    container: Container,
    started: Started,
    listener: UnixListener,
    ends: Ends,
    link: Link,
}

/// The container, for this shim alone: of two starts at once the second finds it running.
fn lock(engine: &Engine, id: &str) -> Result<(Lock, Container), Error> {
    let gone = || Error::NoSuch(format!("container {id} was removed before it was started"));
    let (lock, container) = engine.container(id)?.locked()?.ok_or_else(gone)?;
    if container.state.status == Status::Running {
        return Err(Error::State {
            name: container.config.name,
            status: container.state.status.to_string(),
            remedy: "another command has started it just now",
        });
    }
    Ok((lock, container))
}

// ANCHOR: start
fn start(engine: &Engine, mut container: Container) -> Result<Held, Error> {
    let id = &container.config.id.clone();
    // A session of its own; the error says that it has one already.
    let _ = setsid();
    let listener = mark(engine, &container)?;
    let prepared = Prepared::new(engine, &container)?;
    step::heading("5. a process in namespaces of its own, and a link to the network");
    let (stdio, ends) = stdio(&container)?;
    let mut created = sampan_runtime::create(Create {
        id,
        spec: &prepared.spec,
        bundle: &prepared.bundle,
        rootfs: sampan_runtime::Rootfs::Overlay(prepared.overlay),
        stdio,
        network: prepared.network.for_init(),
        init: container.config.init,
        options: sampan_runtime::Options::default(),
    })?;
    let address = prepared.network.address();
    let link = match prepared.network.attach(&container.config, created.pid(), &engine.paths().run_of(id)) {
        Ok(link) => link,
        Err(error) => {
            // The error to tell is the network's.
            let _ = created.discard();
            return Err(error);
        }
    };
    let process = Identity::of(created.pid());
    let terminal = created.terminal()?;
    step::heading("6. run the command");
    let started = created.start()?;
    container.state.status = Status::Running;
    container.state.process = process;
    container.state.shim = Identity::own();
    container.state.started = Some(Timestamp::now());
    container.state.address = address.map(|address| address.to_string());
    container.state.exit_code = None;
    container.state.oom_killed = false;
    container.state.error = None;
    container.write_state()?;
    let ends = match terminal {
        Some(master) => terminal_ends(master)?,
        None => ends,
    };
    Ok(Held { container, started, listener, ends, link })
}
// ANCHOR_END: start

impl Held {
    fn until_its_end(mut self, engine: &Engine, client: Option<UnixStream>) -> ExitCode {
        let streams = Log::open(&self.container.log()).and_then(|log| Streams::new(self.ends, client, log));
        let clients = match streams {
            Ok(mut streams) => {
                let ran = streams.run(self.started.pidfd(), &self.listener);
                debug_assert!(ran.is_ok(), "poll(2) on descriptors of our own");
                streams.finish()
            }
            // Without a log, or descriptors, there is nobody to hear it: the container still runs to its end.
            Err(_) => Rest::default(),
        };
        let code = self.started.wait().map_or(255, |ended| i32::from(ended.exit_code()));
        step::heading("7. report the result");
        let oom_killed = self.started.cgroup().is_some_and(|cgroup| cgroup.oom_kills() > 0);
        let helper = self.link.helper.map_or(Ok(()), Helper::stop);
        let config = self.container.config.clone();
        let given_back = finish(engine, self.container, self.started, code, oom_killed);
        // Whoever waits and was not let in sees that there is nobody any more.
        drop(self.listener);
        clients.tell_the_end(code);
        let swept = network::sweep_after_a_moment(&config);
        // Where this was the last container, its folder is empty.
        let _ = std::fs::remove_dir(&engine.paths().run);
        if let Err(error) = given_back.and(helper.map_err(Error::from)).and(swept) {
            // Seen with --explain; whoever looks at the container next tries again.
            eprint!("{}", step::report(&error, &crate::hints()));
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// Gives back what the container held, writes down how it ended, and removes it where it was started with `--rm`.
fn finish(
    engine: &Engine,
    mut container: Container,
    started: Started,
    code: i32,
    oom_killed: bool,
) -> Result<(), Error> {
    let _lock = Lock::if_there(&container.folder)?;
    let cgroup = started.remove().map_err(Error::from);
    container.state.status = Status::Exited;
    container.state.process = None;
    container.state.shim = None;
    container.state.address = None;
    container.state.exit_code = Some(code);
    container.state.oom_killed = oom_killed;
    container.state.finished = Some(Timestamp::now());
    let released = engine.release(&container);
    if container.config.auto_remove {
        engine.discard(&container, true)?;
    } else {
        container.write_state()?;
    }
    cgroup.and(released)
}

/// Gives back what a start that failed has made, while this shim still has the lock. The failure is the error to tell; what cannot
/// be given back now is tried again by `rm`.
fn record_failure(engine: &Engine, (config, folder): (Config, PathBuf), error: Error) -> Error {
    let state = State {
        error: Some(step::report(&error, &crate::hints())),
        exit_code: Some(i32::from(error.exit_code())),
        ..State::created()
    };
    let container = Container { config, state, folder };
    let _ = engine.release(&container);
    let _ = network::sweep(&container.config);
    let _ =
        if container.config.auto_remove { engine.discard(&container, true) } else { container.write_state() };
    error
}

/// The client's socket is standard input, which is then nobody's.
fn first_client() -> Option<UnixStream> {
    let stdin = rustix::stdio::stdin();
    let client = stdin.try_clone_to_owned().ok().map(UnixStream::from);
    let null = File::open("/dev/null").ok()?;
    rustix::stdio::dup2_stdin(null).ok()?;
    client.filter(|client| client.peer_addr().is_ok())
}

/// The shim's mark and its socket.
fn mark(engine: &Engine, container: &Container) -> Result<UnixListener, Error> {
    let folder = engine.paths().run_of(&container.config.id);
    if folder.exists() {
        // Of a start that was killed before it was written down, and that has left more than this, maybe.
        engine.release(container)?;
    }
    make_private(&folder)?;
    let mark = folder.join("shim.json");
    write_json(&mark, &Identity::own(), Durability::Cache)?;
    let listener =
        step("bind", format_args!("{}", folder.join(SOCKET).display()), "for clients that attach later")
            .run(|| by_descriptor(&folder).and_then(|(_fd, path)| UnixListener::bind(path)))?;
    Ok(listener)
}

/// Connects to the shim's socket in a container's run folder.
///
/// # Errors
/// Where nobody listens.
pub fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    let (_fd, path) = by_descriptor(folder)?;
    UnixStream::connect(path)
}

/// A socket's path has room for 107 bytes, and a folder's may be longer: it is named by a descriptor. See unix(7).
fn by_descriptor(folder: &Path) -> std::io::Result<(File, PathBuf)> {
    let fd = File::open(folder)?;
    let path = Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()).join(SOCKET);
    Ok((fd, path))
}

/// The container's standard streams, and the shim's ends of them.
fn stdio(container: &Container) -> Result<(Stdio, Ends), Error> {
    let config = &container.config;
    let none = Ends { stdin: None, stdout: None, stderr: None, terminal: false, stdin_once: false };
    if config.terminal {
        return Ok((Stdio::Terminal(WindowSize { rows: 24, columns: 80 }), none));
    }
    let failed = |error: std::io::Error| StepError::new("pipe2", "O_CLOEXEC", error);
    let (out_read, out_write) = streams::pipe().map_err(failed)?;
    let (err_read, err_write) = streams::pipe().map_err(failed)?;
    let (input, stdin) = if config.open_stdin {
        let (read, write) = streams::pipe().map_err(failed)?;
        (read, Some(File::from(write)))
    } else {
        let null = File::open("/dev/null").map_err(|error| StepError::new("open", "/dev/null", error))?;
        (OwnedFd::from(null), None)
    };
    let ends = Ends {
        stdin,
        stdout: Some(out_read.into()),
        stderr: Some(err_read.into()),
        terminal: false,
        stdin_once: config.open_stdin,
    };
    Ok((Stdio::Fds(input, out_write, err_write), ends))
}

fn terminal_ends(master: OwnedFd) -> Result<Ends, Error> {
    let copy =
        master.as_fd().try_clone_to_owned().map_err(|error| StepError::new("dup", "the terminal", error))?;
    Ok(Ends {
        stdin: Some(copy.into()),
        stdout: Some(master.into()),
        stderr: None,
        terminal: true,
        stdin_once: false,
    })
}
