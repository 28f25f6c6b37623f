//! `process.scheduler`, `ioPriority`, `execCPUAffinity`: when the processor, and the disk, are the program's, and which processors.
//!
//! A cgroup divides time between containers; a scheduling policy says what the kernel does among those who want to run *now*:
//! real-time policies (FIFO, RR, and DEADLINE with its budget) before all others, IDLE after all. Each is inherited by
//! children and survives an exec.
//!
//! What the kernel requires: 1. `CAP_SYS_NICE` in the *host's* user namespace for a real-time policy and for a nice value lower
//! than the caller's, and so before capabilities are dropped; 2. on cgroup v1 with `CONFIG_RT_GROUP_SCHED`, time in
//! `cpu.rt_runtime_us` of the cgroup; 3. for DEADLINE, that the process may run on all processors of its domain.
//!
//! Affinity is for exec alone, and twice: a process that comes into a cgroup with its own cpuset(7) has run on other processors
//! before, which costs those who have paid to be alone there. So `initial` is set before the cgroup is joined, `final` after.
//!
//! See sched_setattr(2), sched(7), ioprio_set(2), sched_setaffinity(2); runtime-spec: config.md, "Linux Process".

use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use step::{StepError, step};

use crate::Error;
use crate::syscalls::{self, SchedAttr};

/// What the kernel is told of a process's turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    scheduler: Option<(LinuxSchedulerPolicy, SchedAttr)>,
    io: Option<(IOPriorityClass, u16)>,
}

impl Turn {
    /// Reads and checks the two fields.
    ///
    /// # Errors
    /// [`Error::Config`] for values that contradict the policy, or that the kernel does not have.
    pub(crate) fn new(process: &Process) -> Result<Self, Error> {
        let io = process.io_priority().as_ref().map(io_priority).transpose()?;
        Ok(Self { scheduler: process.scheduler().as_ref().map(attributes).transpose()?, io })
    }

    /// Tells the kernel. While the process is still root.
    pub(crate) fn apply(&self) -> Result<(), StepError> {
        if let Some((policy, attributes)) = &self.scheduler {
            let (nice, priority) = (attributes.nice, attributes.priority);
            step(
                "sched_setattr",
                format_args!("{policy} nice {nice} priority {priority}"),
                "who runs first among those that want to run now",
            )
            .run(|| syscalls::sched_setattr(attributes))?;
        }
        if let Some((class, level)) = self.io {
            step("ioprio_set", format_args!("{class} {level}"), "whose turn it is at the disk")
                .run(|| syscalls::ioprio_set(number(class), level))?;
        }
        Ok(())
    }
}

fn attributes(scheduler: &oci_spec::runtime::Scheduler) -> Result<(LinuxSchedulerPolicy, SchedAttr), Error> {
    let wrong = |field: &str, reason: &str| Err(Error::config(format!("process.scheduler.{field}"), reason));
    let policy = *scheduler.policy();
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return wrong("nice", "it must be -20 to 19");
    }
    let real_time = matches!(policy, LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr);
    let priority = scheduler.priority().unwrap_or(0);
    if priority != 0 && !real_time {
        return wrong("priority", "only SCHED_FIFO and SCHED_RR have one");
    }
    let Ok(priority) = u32::try_from(priority) else { return wrong("priority", "it must not be negative") };
    let time = |time: &Option<u64>| time.unwrap_or(0);
    let (runtime, deadline, period) =
        (time(scheduler.runtime()), time(scheduler.deadline()), time(scheduler.period()));
    if policy != LinuxSchedulerPolicy::SchedDeadline && (runtime, deadline, period) != (0, 0, 0) {
        return wrong("runtime", "runtime, deadline and period are SCHED_DEADLINE's alone");
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |all, each| all | flag(*each));
    let size = SchedAttr::size(flags & 0x60 != 0);
    let policy_number = policy_number(policy);
    let all = SchedAttr {
        size,
        policy: policy_number,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        ..SchedAttr::default()
    };
    Ok((policy, all))
}

fn policy_number(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        // Reserved in the kernel, and in none that is released.
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

fn flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

fn io_priority(asked: &LinuxIOPriority) -> Result<(IOPriorityClass, u16), Error> {
    match u16::try_from(asked.priority()) {
        Ok(level @ 0..=7) => Ok((asked.class(), level)),
        _ => Err(Error::config("process.ioPriority.priority", "it must be 0 to 7")),
    }
}

fn number(class: IOPriorityClass) -> u16 {
    match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    }
}

/// On which processors a process of exec runs, before and after it is in the container's cgroup.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    initial: Option<(String, CpuSet)>,
    last: Option<(String, CpuSet)>,
}

impl Affinity {
    /// Reads `process.execCPUAffinity`.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no list of processors.
    pub(crate) fn new(asked: Option<&ExecCPUAffinity>) -> Result<Self, Error> {
        let Some(asked) = asked else { return Ok(Self::default()) };
        let read = |field: &str, list: &Option<String>| match list.as_deref().filter(|list| !list.is_empty())
        {
            Some(list) => processors(list).map(|set| Some((list.to_owned(), set))).ok_or_else(|| {
                Error::config(
                    format!("process.execCPUAffinity.{field}"),
                    format!("{list:?} is no list of processors, such as 0-3,7"),
                )
            }),
            None => Ok(None),
        };
        Ok(Self {
            initial: read("initial", asked.initial())?,
            last: read("final", asked.cpu_affinity_final())?,
        })
    }

    /// Moves the runtime process itself, whose child inherits it; gives the processors to come back to.
    pub(crate) fn begin(&self) -> Result<Option<CpuSet>, StepError> {
        let Some((list, set)) = &self.initial else { return Ok(None) };
        let before =
            sched_getaffinity(None).map_err(|errno| StepError::new("sched_getaffinity", "", errno))?;
        move_to(list, set, "where it runs before it is in the container's cgroup")?;
        Ok(Some(before))
    }

    /// Goes back after [`Affinity::begin`].
    pub(crate) fn restore(before: Option<CpuSet>) -> Result<(), StepError> {
        before.map_or(Ok(()), |set| move_to("as before", &set, "the runtime process is not meant"))
    }

    /// In the new process, when it is in the cgroup.
    pub(crate) fn settle(&self) -> Result<(), StepError> {
        let Some((list, set)) = &self.last else { return Ok(()) };
        move_to(list, set, "where it runs in the container")
    }
}

fn move_to(list: &str, set: &CpuSet, why: &'static str) -> Result<(), StepError> {
    step("sched_setaffinity", format_args!("{list}"), why).run(|| sched_setaffinity(None, set))
}

/// `0-3,7`; none for what is no such list, or names more processors than the kernel can have.
fn processors(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for number in numbers(list, CpuSet::MAX_CPU)? {
        set.set(number);
    }
    Some(set)
}

/// A list of numbers below `limit`, as the kernel's own files have it: `0-3,7`.
pub(crate) fn numbers(list: &str, limit: usize) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= limit {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(json: &str) -> Result<Turn, Error> {
        Turn::new(
            &serde_json::from_str(&format!(r#"{{"user":{{}},"cwd":"/","args":["a"],{json}}}"#)).unwrap(),
        )
    }

    #[test]
    fn what_contradicts_the_policy_is_refused_by_its_field() {
        for (json, field) in [
            (r#""scheduler":{"policy":"SCHED_OTHER","nice":20}"#, "process.scheduler.nice"),
            (r#""scheduler":{"policy":"SCHED_OTHER","priority":1}"#, "process.scheduler.priority"),
            (r#""scheduler":{"policy":"SCHED_FIFO","priority":-1}"#, "process.scheduler.priority"),
            (r#""scheduler":{"policy":"SCHED_RR","runtime":1}"#, "process.scheduler.runtime"),
            (r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}"#, "process.ioPriority.priority"),
            (r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":-1}"#, "process.ioPriority.priority"),
        ] {
            let error = turn(json).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {field}: ")), "{error}");
        }
    }

    #[test]
    fn a_deadline_has_all_its_times() {
        let json = r#""scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RECLAIM"],"runtime":10,"deadline":20,"period":30}"#;
        let (_, attributes) = turn(json).unwrap().scheduler.unwrap();
        let times = (attributes.runtime, attributes.deadline, attributes.period);
        assert_eq!((attributes.policy, attributes.flags, times, attributes.size), (6, 2, (10, 20, 30), 48));
    }

    #[test]
    fn lists_are_the_kernels() {
        assert_eq!(numbers("0-2,7", 8), Some(vec![0, 1, 2, 7]));
        for list in ["", "3-1", "8", "a", "1-", "0-99999999999"] {
            assert_eq!(numbers(list, 8), None, "{list:?}");
        }
    }
}
