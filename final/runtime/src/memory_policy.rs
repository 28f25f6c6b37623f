//! `linux.memoryPolicy`: from which NUMA nodes the program's memory comes.
//!
//! On a machine with several memory controllers each processor has one that is near. The policy says which a page is taken from
//! when it is first touched; it is inherited by children and survives an exec. A cpuset says what is *allowed*, a policy what is
//! preferred within that.
//!
//! What the kernel requires: 1. nodes that are there, and allowed by the cpuset: EINVAL otherwise, so it comes after the
//! cgroup; 2. nodes for all modes but DEFAULT and LOCAL, and none for these; 3. a kernel with `CONFIG_NUMA`.
//!
//! See set_mempolicy(2), numa(7); runtime-spec: config-linux.md, "Memory Policy".

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};
use step::{StepError, step};

use crate::Error;
use crate::scheduler::numbers;
use crate::syscalls;

/// More than any kernel is built for.
const MOST_NODES: usize = 1024;

/// A policy with its nodes, as bits.
#[derive(Debug)]
pub(crate) struct MemoryPolicy {
    mode: MemoryPolicyModeType,
    list: String,
    number: u32,
    mask: Vec<u64>,
}

impl MemoryPolicy {
    /// Reads `linux.memoryPolicy`.
    ///
    /// # Errors
    /// [`Error::Config`] for nodes that are no list, or that do not go with the mode.
    pub(crate) fn new(asked: &LinuxMemoryPolicy) -> Result<Self, Error> {
        let wrong = |reason: String| Error::config("linux.memoryPolicy.nodes", reason);
        let mode = asked.mode();
        let list = asked.nodes().clone().unwrap_or_default();
        let nodes = match list.as_str() {
            "" => Vec::new(),
            list => numbers(list, MOST_NODES)
                .ok_or_else(|| wrong(format!("{list:?} is no list of nodes, such as 0-1,3")))?,
        };
        let without = matches!(mode, MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal);
        if without && !nodes.is_empty() {
            return Err(wrong(format!("{mode} takes none")));
        }
        // MPOL_PREFERRED without a node prefers the nearest.
        if !without && nodes.is_empty() && mode != MemoryPolicyModeType::MpolPreferred {
            return Err(wrong(format!("{mode} needs some")));
        }
        let mut mask = vec![0; nodes.iter().max().map_or(0, |last| last / 64 + 1)];
        for node in nodes {
            mask[node / 64] |= 1 << (node % 64);
        }
        let flags = asked.flags().iter().flatten().fold(0, |all, flag| all | bit(*flag));
        Ok(Self { mode, list, number: number(mode) | flags, mask })
    }

    /// Tells the kernel. In the container's cgroup.
    pub(crate) fn apply(&self) -> Result<(), StepError> {
        let operands = format_args!("{} {}", self.mode, self.list);
        step("set_mempolicy", operands, "from which memory nodes this process's pages come")
            .run(|| syscalls::set_mempolicy(self.number, &self.mask))
    }
}

fn number(mode: MemoryPolicyModeType) -> u32 {
    match mode {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    }
}

fn bit(flag: MemoryPolicyFlagType) -> u32 {
    match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<MemoryPolicy, Error> {
        MemoryPolicy::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn nodes_are_bits_and_flags_lie_above_the_mode() {
        let policy =
            policy(r#"{"mode":"MPOL_BIND","nodes":"0-1,65","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap();
        assert_eq!((policy.number, policy.mask), (2 | 1 << 15, vec![3, 2]));
    }

    #[test]
    fn nodes_and_mode_go_together() {
        for json in [
            r#"{"mode":"MPOL_BIND"}"#,
            r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"x"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"1024"}"#,
        ] {
            policy(json).unwrap_err();
        }
        assert!(policy(r#"{"mode":"MPOL_PREFERRED"}"#).unwrap().mask.is_empty());
    }
}
