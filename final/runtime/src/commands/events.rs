//! `events`: what a container uses, every few seconds; and that it ran out of memory, at once. A line of JSON each, in runc's form.
//!
//! See [`cgroups::usage`] for where the numbers come from, and [`cgroups::oom`] for who rings.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cgroups::oom::Woken;
use cgroups::usage::{Counter, IoCount, Usage};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Map, Value, json};

use crate::state::{Status, Store};

/// `events [--stats] [--interval TIME] ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime events --stats first | jq .data.memory.usage")]
pub(crate) struct Args {
    /// Tell what it uses once, and be done
    #[arg(long)]
    stats: bool,
    /// How often it is told: 5s, 500ms, 1m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    interval: Duration,
    /// The container's id
    id: String,
}

pub(crate) fn events(store: &Store, Args { stats, interval, id }: &Args) -> anyhow::Result<u8> {
    if interval.is_zero() {
        bail!("the interval must be more than nothing");
    }
    let record = store.read(id)?;
    if store.status(&record)? == Status::Stopped {
        bail!("container {id} is not running: it has stopped");
    }
    let cgroup = store.cgroup(id)?.with_context(|| format!("container {id} has no cgroup that counts"))?;
    let tell_stats = || tell(id, "stats", Some(data(&cgroup.usage())));
    if *stats {
        return tell_stats().map(|_| 0);
    }
    let process = Pid::from_raw(record.pid).context("no process")?;
    // One that has ended meanwhile is the end of it.
    let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else { return Ok(0) };
    let mut watch =
        cgroup.watch_oom()?.context("without the memory controller nobody is told: use --stats")?;
    let mut next = Instant::now() + *interval;
    loop {
        let told = match watch.wait(process.as_fd(), next.saturating_duration_since(Instant::now()))? {
            Woken::OutOfMemory => tell(id, "oom", None)?,
            Woken::Time => {
                next += *interval;
                tell_stats()?
            }
            Woken::Ended => false,
        };
        if !told {
            return Ok(0);
        }
    }
}

/// Whether somebody still listens.
fn tell(id: &str, kind: &str, data: Option<Value>) -> anyhow::Result<bool> {
    let mut line = json!({ "type": kind, "id": id });
    if let Some(data) = data {
        line["data"] = data;
    }
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// runc's form; as there, what is zero or empty is left out of some of it.
fn data(usage: &Usage) -> Value {
    let cpu = &usage.cpu;
    let memory = &usage.memory;
    let pages = usage.hugetlb.iter().map(|(size, counter)| {
        let all = json!({ "usage": counter.usage, "max": counter.max });
        (size.clone(), with(sparse(all), &json!({ "failcnt": counter.hits })))
    });
    json!({
        "cpu": {
            "usage": with(
                sparse(json!({ "total": cpu.total, "percpu": cpu.each })),
                &json!({ "kernel": cpu.kernel, "user": cpu.user }),
            ),
            "throttling": sparse(json!({
                "periods": cpu.periods, "throttledPeriods": cpu.throttled_periods, "throttledTime": cpu.throttled_time,
            })),
        },
        "cpuset": sparse(json!({ "cpus": usage.cpus, "mems": usage.mems })),
        "memory": sparse(json!({
            "cache": memory.cache, "usage": entry(&memory.usage), "swap": entry(&memory.swap),
            "kernel": entry(&memory.kernel), "kernelTCP": entry(&memory.kernel_tcp), "raw": memory.raw,
        })),
        "pids": sparse(json!({ "current": usage.pids, "limit": usage.pids_limit })),
        "blkio": sparse(json!({
            "ioServiceBytesRecursive": requests(&usage.io_bytes), "ioServicedRecursive": requests(&usage.io_requests),
        })),
        "hugetlb": Value::Object(pages.collect()),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn entry(counter: &Counter) -> Value {
    let some = sparse(json!({ "usage": counter.usage, "max": counter.max }));
    with(some, &json!({ "limit": counter.limit, "failcnt": counter.hits }))
}

fn requests(counts: &[IoCount]) -> Vec<Value> {
    let line = |count: &IoCount| {
        let (major, minor) = count.device;
        with(
            sparse(json!({ "major": major, "minor": minor, "value": count.value })),
            &json!({ "op": count.what }),
        )
    };
    counts.iter().map(line).collect()
}

/// Without what is zero or empty.
fn sparse(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let nothing = |value: &Value| match value {
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    Value::Object(map.into_iter().filter(|(_, value)| !nothing(value)).collect::<Map<_, _>>())
}

fn with(mut value: Value, more: &Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more.clone());
    }
    value
}

/// A number and its unit, as Go writes it; several may follow each other: `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 5s, 500ms or 1m");
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let seconds = match &unit[..end] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        sum = sum.saturating_add(Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?);
        rest = &unit[end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_go_has_it() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "5", "s", "5x", "-1s", "1s2"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_zero_is_left_out_where_runc_leaves_it_out() {
        let usage = Usage { pids: 1, ..Usage::default() };
        let data = data(&usage);
        assert_eq!(data["pids"], json!({ "current": 1 }));
        assert_eq!(data["cpu"], json!({ "usage": { "kernel": 0, "user": 0 }, "throttling": {} }));
        assert_eq!(data["memory"]["usage"], json!({ "limit": 0, "failcnt": 0 }));
        assert!(data["network_interfaces"].is_null() && data["blkio"] == json!({}));
    }
}
