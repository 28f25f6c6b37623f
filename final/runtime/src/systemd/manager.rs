//! What systemd's manager is asked for: a scope is started, found, changed and stopped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ::cgroups::{Cgroup, Hierarchies, Limits};
use nix::unistd::{AccessFlags, access};
use step::{StepError, step};

use super::bus::{Connection, Object, is_user};
use super::wire::Value;
use super::{Holder, Unit, annotations, properties};
use crate::Error;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: Object<'_> = Object {
    destination: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
/// A job that has ended.
const JOB_REMOVED: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// What a scope of ours counts: the controllers are switched on by it.
const ACCOUNTING: [&str; 4] = ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"];

/// Makes the scope, with what `asked` annotations say of it, and the limits in its cgroup. The holder is to be dropped when the
/// container is in.
///
/// # Errors
/// [`Error::Config`] for an annotation that cannot be read; [`Error::Systemd`] for what systemd answers; chapter 3's for the limits.
pub(crate) fn create(
    unit: &Unit,
    limits: &Limits,
    asked: Option<&HashMap<String, String>>,
) -> Result<(Cgroup, Holder), Error> {
    let asked = annotations::properties(asked)?;
    let hierarchies = Hierarchies::find(Path::new("/proc/self"))?;
    if hierarchies.v2().is_none() {
        return Err(Error::Systemd(
            "it knows scopes by cgroup version 2, which is not mounted here".to_owned(),
        ));
    }
    come_near(&hierarchies)?;
    let mut bus = Connection::open()?;
    let holder = Holder::new()?;
    let mut more: Vec<_> = ACCOUNTING.map(|name| (name.to_owned(), Value::Bool(true))).into();
    more.extend(properties::of(limits));
    more.extend(asked);
    let why = "on a host whose cgroups systemd keeps, it makes them; below this one the tree is ours";
    start(&mut bus, unit, holder.pid(), more, why)?;
    let made = path(&mut bus, unit)
        .and_then(|path| path.ok_or_else(|| Error::Systemd(format!("{} has no cgroup", unit.name))))
        .and_then(|path| Ok(Cgroup::adopt(&hierarchies, &path, limits)?));
    match made {
        Ok(cgroup) => Ok((cgroup, holder)),
        Err(error) => {
            drop(holder);
            // The first error is the one to tell.
            let _ = stop(unit);
            Err(error)
        }
    }
}

/// Moves this process, an ordinary user's, to where it may clone into a scope of the user's manager: into a scope beside it.
///
/// The kernel asks who moves a process for the right to write to `cgroup.procs` in both cgroups *and* in the one that is above both
/// (cgroups(7), "Cgroup delegation containment"). A login has a scope of the system's; only systemd can lead out of it.
///
/// # Errors
/// [`Error::Systemd`].
pub(crate) fn come_near(hierarchies: &Hierarchies) -> Result<(), Error> {
    let Some(own) = hierarchies.v2().map(|hierarchy| hierarchy.own.join("cgroup.procs")) else {
        return Ok(());
    };
    if !is_user() || access(&own, AccessFlags::W_OK).is_ok() {
        return Ok(());
    }
    let pid = std::process::id();
    let unit = Unit { slice: String::new(), name: format!("sampan-runtime-{pid}.scope") };
    let why = "the kernel lets a user clone into a cgroup of the user's manager from another of these only";
    start(&mut Connection::open()?, &unit, pid, Vec::new(), why)
}

/// Starts a scope around a process.
fn start(
    bus: &mut Connection,
    unit: &Unit,
    pid: u32,
    more: Vec<(String, Value)>,
    why: &'static str,
) -> Result<(), Error> {
    bus.listen(JOB_REMOVED)?;
    let text = |text: &str| Value::Text(text.to_owned());
    let slice = match unit.slice.as_str() {
        "" if is_user() => "user.slice",
        "" => "system.slice",
        slice => slice,
    };
    let mut all = vec![
        ("Description".to_owned(), text("a container of sampan-runtime")),
        ("Slice".to_owned(), text(slice)),
        ("Delegate".to_owned(), Value::Bool(true)),
        ("DefaultDependencies".to_owned(), Value::Bool(false)),
        ("PIDs".to_owned(), Value::Numbers(vec![pid])),
    ];
    all.extend(more);
    let body = vec![text(&unit.name), text("replace"), Value::Properties(all), Value::Units(Vec::new())];
    job(bus, "StartTransientUnit", unit, body, why)
}

/// Where the scope's cgroup is, below the hierarchies; none where there is no such scope.
///
/// # Errors
/// [`Error::Systemd`].
pub(crate) fn find(unit: &Unit) -> Result<Option<PathBuf>, Error> {
    path(&mut Connection::open()?, unit)
}

/// Tells systemd of changed limits.
///
/// # Errors
/// [`Error::Systemd`].
pub(crate) fn update(unit: &Unit, limits: &Limits) -> Result<(), Error> {
    let properties = properties::of(limits);
    if properties.is_empty() {
        return Ok(());
    }
    let mut bus = Connection::open()?;
    let body = vec![Value::Text(unit.name.clone()), Value::Bool(true), Value::Properties(properties)];
    let why = "systemd writes its own limits anew when it is reloaded: they must be these";
    call(&mut bus, "SetUnitProperties", unit, body, why).map(drop)
}

/// Stops the scope, if it is still there: it ends by itself with its last process.
///
/// # Errors
/// [`Error::Systemd`].
pub(crate) fn stop(unit: &Unit) -> Result<(), Error> {
    let mut bus = Connection::open()?;
    bus.listen(JOB_REMOVED)?;
    if path(&mut bus, unit)?.is_none() {
        return Ok(());
    }
    let body = vec![Value::Text(unit.name.clone()), Value::Text("replace".to_owned())];
    match job(&mut bus, "StopUnit", unit, body, "nothing of the container is left in it") {
        // It has ended meanwhile.
        Err(Error::Systemd(text)) if text.contains(NO_SUCH_UNIT) => Ok(()),
        other => other,
    }
}

/// Calls a method that starts a job, and waits for the job's end.
fn job(
    bus: &mut Connection,
    method: &'static str,
    unit: &Unit,
    body: Vec<Value>,
    why: &'static str,
) -> Result<(), Error> {
    let answer = call(bus, method, unit, body, why)?;
    let Some(job) = answer.first().and_then(Value::text) else {
        return Err(Error::Systemd(format!("{method}: an answer without a job")));
    };
    // (number, job, unit, result)
    let result = bus.signal("JobRemoved", |body| {
        let of = |at: usize| body.get(at).and_then(Value::text);
        (of(1) == Some(job)).then(|| of(3).unwrap_or_default().to_owned())
    })?;
    match result.as_str() {
        "done" => Ok(()),
        other => Err(Error::Systemd(format!("{method} {}: the job ended with {other:?}", unit.name))),
    }
}

fn call(
    bus: &mut Connection,
    method: &'static str,
    unit: &Unit,
    body: Vec<Value>,
    why: &'static str,
) -> Result<Vec<Value>, Error> {
    let mut failed = None;
    let answer =
        step(method, format_args!("{}", unit.name), why).run(|| match bus.call(&MANAGER, method, body) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err((name, text))) => {
                failed = Some(Error::Systemd(format!("{method} {}: {text} ({name})", unit.name)));
                Err(std::io::Error::other(name))
            }
            Err(error) => {
                failed = Some(error);
                Err(std::io::Error::other("the bus"))
            }
        });
    answer.map_err(|error: StepError| failed.unwrap_or(Error::Step(error)))
}

/// The unit's cgroup, without the slash in front.
fn path(bus: &mut Connection, unit: &Unit) -> Result<Option<PathBuf>, Error> {
    let failed = |(name, text): (String, String)| Error::Systemd(format!("{}: {text} ({name})", unit.name));
    let object = match bus.call(&MANAGER, "GetUnit", vec![Value::Text(unit.name.clone())])? {
        Err((name, _)) if name == NO_SUCH_UNIT => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(answer) => answer.first().and_then(Value::text).unwrap_or_default().to_owned(),
    };
    let properties =
        Object { destination: SYSTEMD, path: &object, interface: "org.freedesktop.DBus.Properties" };
    let which = ["org.freedesktop.systemd1.Scope", "ControlGroup"].map(|it| Value::Text(it.to_owned()));
    let answer = bus.call(&properties, "Get", which.to_vec())?.map_err(failed)?;
    let path = answer.first().and_then(Value::text).unwrap_or_default().trim_start_matches('/').to_owned();
    let plain = !path.is_empty() && path.split('/').all(|part| !["", ".", ".."].contains(&part));
    Ok(plain.then(|| PathBuf::from(path)))
}
