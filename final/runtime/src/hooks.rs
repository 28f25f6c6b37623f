//! `hooks`: programs of the host's that are run at certain moments of a container's life.
//!
//! ```text
//!  create   prestart, createRuntime   here, beside the container; it is there, and has not swapped its root
//!           createContainer           in its namespaces, before its root is swapped: paths are the host's
//!  start    startContainer            in its root, just before its program, and no more allowed than that
//!           poststart                 here, when its program runs
//!  delete   poststop                  here, when nothing is left of it
//! ```
//!
//! Each gets the container's state on standard input. The first that fails, or does not end in time, ends the container; only
//! poststop's failures change nothing any more, and are told.
//!
//! A hook's input and output are files in memory: a pipe would be held open by whatever a hook leaves running.
//!
//! See runtime-spec: config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle".

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use oci_spec::runtime::{Hook, Hooks, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use step::step;

use crate::Error;

/// The hooks of creating and starting a container, and what they are told.
#[derive(Debug)]
pub(crate) struct Planned {
    prestart: Vec<Hook>,
    create_runtime: Vec<Hook>,
    create_container: Vec<Hook>,
    start_container: Vec<Hook>,
    state: State,
    /// The root file system, as the host names it.
    pub(crate) rootfs: PathBuf,
}

/// A container's state, as a hook reads it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    oci_version: String,
    id: String,
    status: &'static str,
    pid: u32,
    bundle: PathBuf,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: HashMap<String, String>,
}

impl State {
    /// The state of a container whose process is not known yet.
    pub fn new(id: &str, spec: &Spec, bundle: &Path) -> Self {
        Self {
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            status: "creating",
            pid: 0,
            bundle: bundle.to_owned(),
            annotations: spec.annotations().clone().unwrap_or_default(),
        }
    }

    fn at(&self, status: &'static str, pid: u32) -> Self {
        Self { status, pid, ..self.clone() }
    }
}

impl Planned {
    /// None where none are asked for.
    ///
    /// # Errors
    /// [`Error::Config`] for one that cannot be run.
    pub(crate) fn new(
        hooks: Option<&Hooks>,
        state: impl FnOnce() -> State,
        rootfs: &Path,
    ) -> Result<Option<Self>, Error> {
        let Some(hooks) = hooks else { return Ok(None) };
        #[allow(deprecated)]
        let all = [
            ("prestart", hooks.prestart()),
            ("createRuntime", hooks.create_runtime()),
            ("createContainer", hooks.create_container()),
            ("startContainer", hooks.start_container()),
            ("poststart", hooks.poststart()),
            ("poststop", hooks.poststop()),
        ];
        for (name, list) in all {
            for (number, hook) in list.iter().flatten().enumerate() {
                check(hook).map_err(|why| Error::config(format!("hooks.{name}[{number}]"), why))?;
            }
        }
        let of = |list: &Option<Vec<Hook>>| list.clone().unwrap_or_default();
        let [(_, prestart), (_, create_runtime), (_, create_container), (_, start_container), ..] = all;
        Ok(Some(Self {
            prestart: of(prestart),
            create_runtime: of(create_runtime),
            create_container: of(create_container),
            start_container: of(start_container),
            state: state(),
            rootfs: rootfs.to_owned(),
        }))
    }

    /// Whether the init process must wait before it swaps its root, and have it where the host has it.
    pub(crate) fn before_pivot(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }

    /// prestart and createRuntime, by the runtime process.
    pub(crate) fn in_runtime(&self, pid: i32) -> Result<(), Error> {
        let state = self.state.at("creating", pid.unsigned_abs());
        run("prestart", &self.prestart, &state, Some(&state.bundle))?;
        run("createRuntime", &self.create_runtime, &state, Some(&state.bundle))
    }

    /// createContainer, by the init process, which sees itself as another number.
    pub(crate) fn in_container(&self) -> Result<(), Error> {
        let state = self.state.at("creating", std::process::id());
        run("createContainer", &self.create_container, &state, Some(&self.rootfs))
    }

    /// startContainer, by the init process.
    pub(crate) fn before_program(&self) -> Result<(), Error> {
        let state = self.state.at("created", std::process::id());
        run("startContainer", &self.start_container, &state, None)
    }
}

/// poststart: the container runs.
///
/// # Errors
/// [`Error::Hook`] for the first that fails: the caller ends the container then.
pub fn poststart(spec: &Spec, state: &State, pid: i32) -> Result<(), Error> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref()).unwrap_or_default();
    run("poststart", hooks, &state.at("running", pid.unsigned_abs()), Some(&state.bundle))
}

/// poststop: nothing is left of the container. All of them are run, whatever becomes of the others.
pub fn poststop(spec: &Spec, state: &State) -> Vec<Error> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref()).unwrap_or_default();
    let state = state.at("stopped", 0);
    let each = (0..).zip(hooks);
    each.filter_map(|(number, hook)| one("poststop", number, hook, &state, Some(&state.bundle)).err())
        .collect()
}

fn check(hook: &Hook) -> Result<(), &'static str> {
    if !hook.path().is_absolute() {
        return Err("the path must begin with /");
    }
    if hook.timeout().is_some_and(|seconds| seconds <= 0) {
        return Err("the timeout must be more than 0 seconds");
    }
    Ok(())
}

fn run(name: &'static str, hooks: &[Hook], state: &State, cwd: Option<&Path>) -> Result<(), Error> {
    (0..).zip(hooks).try_for_each(|(number, hook)| one(name, number, hook, state, cwd))
}

fn one(
    name: &'static str,
    number: usize,
    hook: &Hook,
    state: &State,
    cwd: Option<&Path>,
) -> Result<(), Error> {
    let failed = |reason: String| Error::Hook { name, number, path: hook.path().clone(), reason };
    let text = serde_json::to_vec(state).map_err(|error| failed(error.to_string()))?;
    let spawned =
        step("execve", format_args!("{} ({name})", hook.path().display()), "config.json wants it run now")
            .run(|| spawn(hook, &text, cwd));
    let (child, said) = spawned.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        failed(cause.unwrap_or_default())
    })?;
    let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    match wait(child, timeout).map_err(|error| failed(error.to_string()))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(with_output(&status.to_string(), said))),
        None => {
            let seconds = timeout.unwrap_or_default().as_secs();
            Err(failed(with_output(&format!("it did not end within {seconds} s, and was killed"), said)))
        }
    }
}

/// The hook, and a file with what it says.
fn spawn(hook: &Hook, input: &[u8], cwd: Option<&Path>) -> io::Result<(Child, File)> {
    let memory = || rustix::fs::memfd_create("sampan-hook", MemfdFlags::CLOEXEC).map(File::from);
    let mut stdin = memory()?;
    stdin.write_all(input)?;
    stdin.rewind()?;
    let said = memory()?;
    let args = hook.args().as_deref().unwrap_or_default();
    let name = args.first().map_or(hook.path().as_os_str(), OsStr::new);
    let mut command = Command::new(hook.path());
    command.arg0(name).args(args.iter().skip(1)).env_clear();
    let env = hook.env().iter().flatten();
    command.envs(env.filter_map(|entry| entry.split_once('=')));
    command.stdin(stdin).stdout(said.try_clone()?).stderr(said.try_clone()?);
    if let Some(cwd) = cwd {
        command.current_dir(cwd);
    }
    apart(&mut command);
    Ok((command.spawn()?, said))
}

/// Signals that this process keeps for the container are blocked here, and descriptors that are for it are open: exec would hand both on.
#[allow(unsafe_code)]
fn apart(command: &mut Command) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made: these are sigprocmask(2), with a set
    // that lies on the stack, and close_range(2), with three numbers, which marks descriptors and closes none before exec.
    unsafe {
        command.pre_exec(|| {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            let marked =
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(Errno::result(marked).map(drop)?)
        });
    }
}

/// Its status; none where it had to be killed.
fn wait(mut child: Child, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let Some(timeout) = timeout else { return child.wait().map(Some) };
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec { tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    let ended = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&limit)))?;
    if ended > 0 {
        return child.wait().map(Some);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// As much as a person reads.
fn with_output(what: &str, mut said: File) -> String {
    const ENOUGH: u64 = 2048;
    let mut text = Vec::new();
    let read = said.rewind().and_then(|()| said.take(ENOUGH).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match read {
        Ok(_) if !text.trim().is_empty() => format!("{what}: {}", text.trim()),
        _ => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &str) -> Hook {
        serde_json::from_str(json).unwrap()
    }

    fn state() -> State {
        let spec = serde_json::from_str(r#"{"ociVersion":"1.2.0","annotations":{"a":"b"}}"#).unwrap();
        State::new("c", &spec, Path::new("/"))
    }

    #[test]
    fn a_hook_gets_its_arguments_its_environment_alone_and_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = format!("(echo $0 $1 $A; env | grep -c ^HOME=; cat) > {}", out.display());
        let text = serde_json::json!({ "path": "/bin/sh", "args": ["name", "-c", script, "zero", "one"], "env": ["A=x"] });
        run("prestart", &[hook(&text.to_string())], &state().at("creating", 7), Some(Path::new("/")))
            .unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        let (head, json) = text.split_once("\n0\n").unwrap();
        assert_eq!(head, "zero one x");
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let expected = serde_json::json!({ "ociVersion": "1.2.0", "id": "c", "status": "creating", "pid": 7,
            "bundle": "/", "annotations": { "a": "b" } });
        assert_eq!(json, expected);
    }

    #[test]
    fn one_that_fails_or_never_ends_is_told_with_what_it_said() {
        let fails = |json: &str| run("prestart", &[hook(json)], &state(), None).unwrap_err().to_string();
        let error = fails(r#"{"path":"/bin/sh","args":["sh","-c","echo the reason >&2; exit 3"]}"#);
        assert!(
            error.contains("prestart hook #0 /bin/sh") && error.contains("exit status: 3: the reason"),
            "{error}"
        );
        let error = fails(r#"{"path":"/bin/sleep","args":["sleep","60"],"timeout":1}"#);
        assert!(error.contains("did not end within 1 s"), "{error}");
        assert!(fails(r#"{"path":"/no/such"}"#).contains("ENOENT"));
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_its_field() {
        for (json, field) in [
            (r#"{"prestart":[{"path":"sh"}]}"#, "hooks.prestart[0]"),
            (r#"{"poststop":[{"path":"/sh"},{"path":"/sh","timeout":0}]}"#, "hooks.poststop[1]"),
        ] {
            let hooks = serde_json::from_str(json).ok();
            let error = Planned::new(hooks.as_ref(), state, Path::new("/")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {field}: ")), "{error}");
        }
    }
}
