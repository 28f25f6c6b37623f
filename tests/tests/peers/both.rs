//! Asked of Podman and of Docker alike.

mod life;
mod options;
mod shared;

use tests::{Host, Need, Outcome, Test};

pub(crate) use shared::get;

use super::{Engine, Kind};

const PODMAN: &[Need] = &[
    Need::Root,
    Need::Rootfs,
    Need::Program("/usr/bin/podman"),
    Need::Program("conmon"),
    Need::Program("/usr/lib/podman/netavark"),
    Need::Program("tini-static"),
];
const DOCKER: &[Need] =
    &[Need::Root, Need::Rootfs, Need::Program("/usr/bin/docker"), Need::Program("dockerd")];

/// A test for both: the engine is made for it, and looked at when it is done.
macro_rules! both {
    ($($podman:literal, $docker:literal: $run:path;)*) => {
        vec![$(
            Test { name: $podman, needs: PODMAN, run: |host| with(host, Kind::Podman, $run) },
            Test { name: $docker, needs: DOCKER, run: |host| with(host, Kind::Docker, $run) },
        )*]
    };
}

pub(super) fn tests() -> Vec<Test> {
    both![
        "peers::podman_runs_to_the_end", "peers::docker_runs_to_the_end": life::to_the_end;
        "peers::podman_pauses_and_restarts", "peers::docker_pauses_and_restarts": life::pauses_and_restarts;
        "peers::podman_says_what_cannot_run", "peers::docker_says_what_cannot_run": life::cannot_run;
        "peers::podman_has_terminals", "peers::docker_has_terminals": life::terminals;
        "peers::podman_executes", "peers::docker_executes": life::executes;
        "peers::podman_looks_after_health", "peers::docker_looks_after_health": life::health_and_init;
        "peers::podman_limits", "peers::docker_limits": options::limits;
        "peers::podman_memory_ends", "peers::docker_memory_ends": options::memory_ends;
        "peers::podman_confines", "peers::docker_confines": options::confines;
        "peers::podman_sets_attributes", "peers::docker_sets_attributes": options::attributes;
        "peers::podman_mounts", "peers::docker_mounts": options::mounts;
        "peers::podman_shares_namespaces", "peers::docker_shares_namespaces": shared::namespaces;
        "peers::podman_publishes_ports", "peers::docker_publishes_ports": shared::ports;
    ]
}

fn with(host: &Host, kind: Kind, test: fn(&Engine<'_>) -> Outcome) -> Outcome {
    let engine = Engine::new(host, kind)?;
    test(&engine)?;
    engine.end()
}
