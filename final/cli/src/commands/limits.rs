//! The flags of `create` and `run` that limit a container and give it devices, as Docker has them.

use std::path::PathBuf;

use cgroups::size;
use clap::Args;
use sampan_engine::container::limits::{Device, Limits, Throttle, Ulimit};

/// How much a container may use, and which devices.
#[derive(Args)]
#[command(next_help_heading = "Limits and devices")]
pub(super) struct Confines {
    /// What it keeps when memory is short, as 32m
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory_reservation: Option<u64>,
    /// The most memory and swap together, as 128m; -1 for all swap there is
    #[arg(long, value_name = "SIZE", value_parser = swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// How readily it is swapped out, 0 to 100 (cgroup version 1); -1 leaves it as it is
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// At its memory limit it waits, and is not killed (cgroup version 1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily the kernel kills it when memory runs out, -1000 to 1000
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// Its share of busy processors; 1024 is the usual one
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// Processor time of each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// The period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// On these processors alone, as 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory of these nodes alone
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Its share of a busy disk, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// The most that is read from a disk each second, as /dev/sda:1m
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = Throttle::bytes)]
    device_read_bps: Vec<Throttle>,
    /// The most that is written
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = Throttle::bytes)]
    device_write_bps: Vec<Throttle>,
    /// The most reads each second, as /dev/sda:100
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = Throttle::operations)]
    device_read_iops: Vec<Throttle>,
    /// The most writes
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = Throttle::operations)]
    device_write_iops: Vec<Throttle>,
    /// A limit of each process, NAME=SOFT[:HARD], as nofile=1024
    #[arg(long, value_name = "LIMIT", value_parser = Ulimit::parse)]
    ulimit: Vec<Ulimit>,
    /// A device of the host's, HOST[:CONTAINER[:rwm]]
    #[arg(long, value_name = "DEVICE", value_parser = Device::parse)]
    device: Vec<Device>,
    /// The cgroup that the container's is made in; it is left there
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<PathBuf>,
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    size::parse(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

impl From<Confines> for Limits {
    fn from(asked: Confines) -> Self {
        Self {
            memory_reservation: asked.memory_reservation,
            memory_swap: asked.memory_swap,
            // What is below 0 is too much: it is refused with the rest.
            memory_swappiness: asked
                .memory_swappiness
                .filter(|percent| *percent != -1)
                .map(|percent| u64::try_from(percent).unwrap_or(u64::MAX)),
            oom_kill_disable: asked.oom_kill_disable,
            oom_score_adj: asked.oom_score_adj,
            cpu_shares: asked.cpu_shares,
            cpu_quota: asked.cpu_quota,
            cpu_period: asked.cpu_period,
            cpuset_cpus: asked.cpuset_cpus,
            cpuset_mems: asked.cpuset_mems,
            blkio_weight: asked.blkio_weight,
            device_read_bps: asked.device_read_bps,
            device_write_bps: asked.device_write_bps,
            device_read_iops: asked.device_read_iops,
            device_write_iops: asked.device_write_iops,
            ulimits: asked.ulimit,
            devices: asked.device,
            cgroup_parent: asked.cgroup_parent,
        }
    }
}
