//! `update`: other limits for a container, while it runs.
//!
//! The kernel's files are changed, and the configuration that was kept, so that the next change knows this one. What is not given, or is
//! zero, stays. As runc has it: `--resources` takes the place of all other options.

use std::fs;
use std::io::{self, Read as _};

use anyhow::{Context, bail};
use cgroups::size;
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::state::{Status, Store};

/// `update [--memory SIZE] [--cpu-quota MICROSECONDS] ... [--resources FILE|-] ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Example:\n  sampan-runtime update --memory 128m --pids-limit 50 first\n  echo '{\"cpu\":{\"quota\":50000}}' | sampan-runtime update -r - first"
)]
pub(crate) struct Args {
    /// A file with the resources as JSON, as in config.json; - for standard input. All other options are ignored then
    #[arg(short, long, value_name = "FILE")]
    resources: Option<String>,
    /// Memory; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = bytes, allow_hyphen_values = true)]
    memory: Option<i64>,
    /// Memory that is left to it when the host runs short
    #[arg(long, value_name = "SIZE", value_parser = bytes, allow_hyphen_values = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 for no limit on swap
    #[arg(long, value_name = "SIZE", value_parser = bytes, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Without effect: it is counted with memory
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory: Option<String>,
    /// Without effect: it is counted with memory
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory_tcp: Option<String>,
    /// Processor time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// That period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Time saved up in quiet periods that may be used above the quota
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// Share of contended processors, 2 to 262144; everybody has 1024
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Realtime period, in microseconds (cgroup version 1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Realtime of each such period (cgroup version 1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// 1: it runs only when nobody else wants the processor
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// The processors to run on: 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes to allocate from
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Processes and threads; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Share of contended block devices, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Not supported: Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    l3_cache_schema: Option<String>,
    /// Not supported: Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    mem_bw_schema: Option<String>,
    /// The container's id
    id: String,
}

pub(crate) fn update(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let record = store.read(&args.id)?;
    if store.status(&record)? == Status::Stopped {
        bail!("container {} is not running: it has stopped", args.id);
    }
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        bail!("Intel RDT is not supported: leave --l3-cache-schema and --mem-bw-schema out");
    }
    let given = given(args)?;
    let mut spec = store.spec(&args.id)?;
    let linux = spec.linux_mut().as_mut().context("config.json has no linux")?;
    let kept = serde_json::to_value(linux.resources().clone().unwrap_or_default())?;
    let mut all = kept.clone();
    merge(&mut all, &given);
    sampan_runtime::cgroups::update(&args.id, linux, &resources(&together(&given, &all))?).inspect_err(
        |_| {
            // As runc has it: back to what was, as far as that goes. The first error is the one to tell.
            if let Ok(before) = resources(&same_keys(&given, &kept)) {
                let _ = sampan_runtime::cgroups::update(&args.id, linux, &before);
            }
        },
    )?;
    linux.set_resources(Some(resources(&all)?));
    store.write_spec(&args.id, &spec)?;
    Ok(0)
}

/// What was asked for, in the specification's form.
fn given(args: &Args) -> anyhow::Result<Value> {
    let Some(file) = &args.resources else {
        return Ok(json!({
            "memory": {
                "limit": args.memory, "reservation": args.memory_reservation, "swap": args.memory_swap,
            },
            "cpu": {
                "quota": args.cpu_quota, "period": args.cpu_period, "burst": args.cpu_burst, "shares": args.cpu_share,
                "realtimePeriod": args.cpu_rt_period, "realtimeRuntime": args.cpu_rt_runtime, "idle": args.cpu_idle,
                "cpus": args.cpuset_cpus, "mems": args.cpuset_mems,
            },
            "pids": args.pids_limit.map(|limit| json!({ "limit": limit })),
            "blockIO": { "weight": args.blkio_weight },
        }));
    };
    let mut text = String::new();
    if file == "-" {
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text = fs::read_to_string(file).with_context(|| format!("cannot read {file:?}"))?;
    }
    serde_json::from_str(&text).with_context(|| format!("{file:?} has no resources in it"))
}

fn resources(value: &Value) -> anyhow::Result<LinuxResources> {
    serde_json::from_value(value.clone()).context("these are no resources")
}

/// Not given: null, zero, or nothing in it.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        // Zero is a choice there: no longer idle.
        Value::Object(map) => map.iter().all(|(key, it)| is_nothing(it) && (key != "idle" || it.is_null())),
        Value::Bool(_) => false,
    }
}

/// Puts what is given in the place of what was there.
fn merge(all: &mut Value, given: &Value) {
    match (all, given) {
        (Value::Object(all), Value::Object(given)) => {
            for (key, value) in
                given.iter().filter(|(key, value)| key.as_str() == "idle" || !is_nothing(value))
            {
                if !value.is_null() {
                    merge(all.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (all, given) => *all = given.clone(),
    }
}

/// What is given, and from the rest what it cannot be understood without: swap counts memory too, a quota is of a period.
fn together(given: &Value, all: &Value) -> Value {
    let mut given = given.clone();
    for (section, one, other) in [
        ("memory", "limit", "swap"),
        ("memory", "swap", "limit"),
        ("cpu", "quota", "period"),
        ("cpu", "period", "quota"),
    ] {
        let has = given.get(section).and_then(|it| it.get(one)).is_some_and(|it| !is_nothing(it));
        let lacks = given.get(section).and_then(|it| it.get(other)).is_none_or(is_nothing);
        if has && lacks {
            given[section][other] = all[section][other].clone();
        }
    }
    let sections = given.as_object_mut().map(std::mem::take).unwrap_or_default();
    Value::Object(sections.into_iter().filter(|(_, value)| !is_nothing(value)).collect())
}

/// Of what was there, that which is given anew.
fn same_keys(given: &Value, kept: &Value) -> Value {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            let pairs = given.iter().filter(|(_, value)| !is_nothing(value));
            let pairs =
                pairs.filter_map(|(key, value)| Some((key.clone(), same_keys(value, kept.get(key)?))));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        (_, kept) => kept.clone(),
    }
}

fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    size::parse(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let mut all = json!({ "memory": { "limit": 5, "swap": 7 }, "pids": { "limit": 3 } });
        let given = json!({ "memory": { "limit": 6, "swap": 0 }, "cpu": { "quota": null, "cpus": "" }, "pids": null });
        merge(&mut all, &given);
        assert_eq!(all, json!({ "memory": { "limit": 6, "swap": 7 }, "pids": { "limit": 3 } }));
        merge(&mut all, &json!({ "cpu": { "idle": 0 } }));
        assert_eq!(all["cpu"], json!({ "idle": 0 }), "here zero is a choice");
    }

    #[test]
    fn what_belongs_together_is_written_together() {
        let all = json!({ "memory": { "limit": 6, "swap": 7 }, "cpu": { "quota": 1, "period": 2 } });
        let written =
            together(&json!({ "memory": { "limit": 6 }, "cpu": { "shares": 3 }, "pids": null }), &all);
        assert_eq!(written, json!({ "memory": { "limit": 6, "swap": 7 }, "cpu": { "shares": 3 } }));
        assert_eq!(
            together(&json!({ "cpu": { "quota": 1 } }), &all),
            json!({ "cpu": { "quota": 1, "period": 2 } })
        );
    }

    #[test]
    fn only_what_was_changed_is_put_back() {
        let kept = json!({ "memory": { "limit": 6, "swap": 7 }, "pids": { "limit": 3 } });
        assert_eq!(
            same_keys(&json!({ "memory": { "limit": 9 } }), &kept),
            json!({ "memory": { "limit": 6 } })
        );
    }
}
