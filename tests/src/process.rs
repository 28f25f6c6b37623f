//! Run programs: with a time limit, everything that they say captured, and nothing left running.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ask::wait_until;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a program may take unless the test says otherwise.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a program came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status; 128 + n where signal n ended it, as a shell says it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit status {}\n--- stdout\n{}--- stderr\n{}---", self.code, self.stdout, self.stderr)
    }
}

impl Output {
    /// The output of a program that must have exited with this status.
    ///
    /// # Errors
    /// All that the program said, where the status is another.
    pub fn expect(self, code: i32) -> Result<Self> {
        if self.code == code { Ok(self) } else { Err(format!("status {code} expected: {self}").into()) }
    }

    /// The output of a program that must have succeeded.
    ///
    /// # Errors
    /// As [`Output::expect`].
    pub fn success(self) -> Result<Self> {
        self.expect(0)
    }

    /// Standard output as JSON: what the probe says.
    ///
    /// # Errors
    /// All that the program said, where that is no JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).map_err(|error| format!("no JSON ({error}): {self}").into())
    }
}

/// A command that is being put together: see [`Host::cmd`](crate::Host::cmd).
#[derive(Debug)]
pub struct Cmd {
    inner: Command,
    limit: Duration,
    input: Vec<u8>,
    pipe: bool,
}

impl Cmd {
    pub(crate) fn new(inner: Command) -> Self {
        // On a machine where tests may take longer, so may the commands in them.
        let seconds = std::env::var("KIT_TIME_LIMIT").ok().and_then(|text| text.parse::<u64>().ok());
        let limit = seconds.map_or(LIMIT, |seconds| LIMIT.max(Duration::from_secs(seconds / 6)));
        Self { inner, limit, input: Vec::new(), pipe: false }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.inner.arg(arg);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, path: impl AsRef<Path>) -> Self {
        self.inner.current_dir(path);
        self
    }

    /// Sets the time limit.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What the program reads on standard input (nothing by default).
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Standard input is a pipe that the test writes to: [`Child::stdin`].
    pub fn input_pipe(mut self) -> Self {
        self.pipe = true;
        self
    }

    /// The command beneath, for what has no method here.
    pub fn inner(&mut self) -> &mut Command {
        &mut self.inner
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Where it cannot be started, or passes its time limit: it is killed then.
    pub fn run(self) -> Result<Output> {
        self.spawn()?.wait()
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(mut self) -> Result<Child> {
        let name = self.inner.get_program().to_string_lossy().into_owned();
        let (stdout, stderr) = (capture()?, capture()?);
        self.inner.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        self.inner.stdin(if self.pipe {
            Stdio::piped()
        } else if self.input.is_empty() {
            Stdio::null()
        } else {
            let mut file = capture()?;
            file.write_all(&self.input)?;
            file.seek(SeekFrom::Start(0))?;
            Stdio::from(file)
        });
        let mut inner = self.inner.spawn().map_err(|error| format!("cannot run {name}: {error}"))?;
        let stdin = inner.stdin.take();
        Ok(Child { inner, stdin, name, stdout, stderr, limit: self.limit, status: None })
    }
}

/// An unnamed file, which the program may also open anew by `/dev/stdout`, whoever it runs as.
fn capture() -> io::Result<File> {
    let file = tempfile::tempfile()?;
    file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
    Ok(file)
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    /// The pipe to its standard input, if [`Cmd::input_pipe`] was asked for. Take it to close it.
    pub stdin: Option<ChildStdin>,
    name: String,
    stdout: File,
    stderr: File,
    limit: Duration,
    status: Option<ExitStatus>,
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.inner.id().cast_signed()
    }

    /// What it has written on standard output so far.
    pub fn stdout(&self) -> String {
        written(&self.stdout)
    }

    /// What it has written on standard error so far.
    pub fn stderr(&self) -> String {
        written(&self.stderr)
    }

    /// Waits until it has written `text`, on standard output or standard error.
    ///
    /// # Errors
    /// All that it said, where that does not come within the time limit, or it ends before.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let found = |child: &Self| child.stdout().contains(text) || child.stderr().contains(text);
        let limit = self.limit;
        let mut ended = false;
        let outcome = wait_until(text, limit, || {
            ended = self.ended();
            ended || found(self)
        });
        if found(self) {
            return Ok(());
        }
        let state = if ended { "ended" } else { "runs" };
        outcome.and(Err(format!(
            "{} {state} and never said {text:?}\n--- stdout\n{}--- stderr\n{}",
            self.name,
            self.stdout(),
            self.stderr()
        )
        .into()))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// As kill(2).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid()), signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it passes its time limit: it is killed then.
    pub fn wait(mut self) -> Result<Output> {
        drop(self.stdin.take());
        let start = Instant::now();
        let limit = self.limit;
        if wait_until("", limit, || self.ended()).is_err() {
            let (out, err) = (self.stdout(), self.stderr());
            let took = start.elapsed();
            return Err(format!(
                "{} still ran after {took:?}\n--- stdout\n{out}--- stderr\n{err}",
                self.name
            )
            .into());
        }
        let code = self
            .status
            .map_or(-1, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
        Ok(Output { code, stdout: self.stdout(), stderr: self.stderr() })
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.status = self.status.or_else(|| self.inner.try_wait().ok().flatten());
        self.status.is_some()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended() {
            // It may have ended in between: nothing to do then.
            let _ = self.inner.kill();
            let _ = self.inner.wait();
        }
    }
}

/// All bytes of the file, from its start, without moving the offset that it shares with the program.
fn written(file: &File) -> String {
    struct At<'a>(&'a File, u64);
    impl Read for At<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read_at(buffer, self.1)?;
            self.1 += length as u64;
            Ok(length)
        }
    }
    let mut bytes = Vec::new();
    // A capture file is in memory or on a local disk: what cannot be read was not written.
    let _ = At(file, 0).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
