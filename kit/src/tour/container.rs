//! A container with the probe in it, which does what it is told line by line and answers each line with JSON.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

/// How long a container may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running session.
pub(crate) struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The probe, as the host numbers it.
    pub(crate) pid: i32,
}

impl Session {
    /// Starts a command that ends in `PROBE session TAG`; the tag is added here.
    pub(crate) fn start(mut command: Command, probe: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let tag = format!("tour-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        command.args([probe, "session", &tag]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the container")?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut session = Self { child, input, output, pid: 0 };
        // The first answer shows that it runs.
        session.ask("reach /").map_err(|error| anyhow!("{error}\n{}", session.complaint()))?;
        session.pid = find(probe, &tag).context("the probe is not to be found in /proc")?;
        Ok(session)
    }

    /// Tells the probe one thing to do, and gives its answer.
    pub(crate) fn ask(&mut self, words: &str) -> Result<Value> {
        writeln!(self.input, "{words}")
            .and_then(|()| self.input.flush())
            .context("the container has ended")?;
        loop {
            let answer = self.line()?;
            // What a listener of the session says meanwhile is no answer.
            if answer.get("peer").is_none() {
                return Ok(answer);
            }
        }
    }

    /// The next line that comes.
    pub(crate) fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line).context("the container does not answer")? == 0 {
            return Err(anyhow!("the container has ended"));
        }
        serde_json::from_str(&line).with_context(|| format!("no answer of the probe's: {line}"))
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What was said before the end; a container that still runs says no more.
            let _ = self.child.kill();
            let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
        }
        text
    }

    /// Ends the session, and with it the container.
    pub(crate) fn end(self) -> Result<()> {
        let Self { mut child, input, .. } = self;
        drop(input);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill()?;
        child.wait()?;
        Err(anyhow!("the container did not end"))
    }
}

/// The process whose command line is the probe's with this tag: the programs around it have it as a part of theirs.
fn find(probe: &str, tag: &str) -> Option<i32> {
    let wanted = format!("{probe}\0session\0{tag}\0");
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let line =
                fs::read(Path::new("/proc").join(entry.file_name()).join("cmdline")).unwrap_or_default();
            if line == wanted.as_bytes()
                && let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            {
                return Some(pid);
            }
        }
    }
    None
}
