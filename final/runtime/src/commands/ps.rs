//! `ps`: the processes in a container, as the host's ps(1) shows them, or their numbers.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, bail};
use nix::unistd::Pid;

use super::list::Format;
use crate::state::{Record, Store};

/// `ps [--format table|json] ID [PS'S ARGUMENTS]`
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Example:\n  sampan-runtime ps first\n  sampan-runtime ps first -o pid,rss,cmd\n  sampan-runtime ps --format json first"
)]
pub(crate) struct Args {
    /// How
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The container's id
    id: String,
    /// Arguments for ps(1), in place of -ef
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    ps: Vec<String>,
}

pub(crate) fn ps(store: &Store, args: &Args) -> anyhow::Result<u8> {
    let record = store.read(&args.id)?;
    let members: Vec<_> = members(store, &record)?.into_iter().map(Pid::as_raw).collect();
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&members)?),
        Format::Table => {
            let default = ["-ef".to_owned()];
            let words = if args.ps.is_empty() { &default[..] } else { &args.ps };
            let output = Command::new("ps").args(words).output().context("cannot run ps(1)")?;
            if !output.status.success() {
                bail!("ps {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            }
            print!("{}", chosen(&String::from_utf8_lossy(&output.stdout), &members.into_iter().collect())?);
        }
    }
    Ok(0)
}

/// All processes in a container, as the host numbers them.
pub(super) fn members(store: &Store, record: &Record) -> anyhow::Result<Vec<Pid>> {
    if let Some(cgroup) = store.cgroup(&record.id)? {
        return Ok(cgroup.everyone());
    }
    // Without a cgroup: those in its pid namespace, where that is its own.
    if !record.lives() {
        return Ok(Vec::new());
    }
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = namespace(&record.pid.to_string());
    if inside.is_none() || inside == namespace("self") {
        return Ok(vec![Pid::from_raw(record.pid)]);
    }
    let names = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter_map(|name| Some((name.parse().ok()?, name)));
    let mut all: Vec<i32> =
        numbers.filter(|(_, name)| namespace(name) == inside).map(|(pid, _)| pid).collect();
    all.sort_unstable();
    Ok(all.into_iter().map(Pid::from_raw).collect())
}

/// The lines of ps's table that are about one of `members`, and its first.
fn chosen(table: &str, members: &HashSet<i32>) -> anyhow::Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|name| name == "PID");
    let column = column.context("ps shows no column PID: ask for one")?;
    let of_member = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| members.contains(&pid))
    };
    Ok([header].into_iter().chain(lines.filter(of_member)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_members_are_shown() {
        let table = "UID  PID PPID CMD\nroot 1 0 init\nroot 12 1 sh 1\n";
        assert_eq!(chosen(table, &HashSet::from([12])).unwrap(), "UID  PID PPID CMD\nroot 12 1 sh 1\n");
        chosen("USER CMD\nroot sh\n", &HashSet::new()).unwrap_err();
    }
}
