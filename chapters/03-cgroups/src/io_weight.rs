//! Beyond this chapter: the share of a contended block device.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | share | `io.bfq.weight`: 1 to 1000; `io.weight`: 1 to 10000 | `blkio.bfq.weight`, `blkio.weight`: 10 to 1000 |
//! | of one device | the same files: `MAJ:MIN WEIGHT` | `blkio.bfq.weight_device`, `blkio.weight_device` |
//! | of the tasks beside child cgroups | none | `blkio.leaf_weight`, `blkio.leaf_weight_device` |
//!
//! Which file there is depends on who schedules the requests. The scheduler BFQ brings the first of each pair; `io.weight` comes with
//! the cost model (`CONFIG_BLK_CGROUP_IOCOST`), and version 1's second ones went with the scheduler CFQ in Linux 5.0.
//!
//! A weight is given in version 1's range, 10 to 1000, as the runtime-spec has it; BFQ takes it as it is, and for `io.weight` it is
//! stretched to 1 to 10000.
//!
//! See kernel: cgroup-v2.rst "IO", cgroup-v1/blkio-controller.rst, block/bfq-iosched.rst.

use std::path::Path;

use crate::Limits;
use crate::file::{Missing, Setting};
use crate::hierarchy::Version;

const WHY: &str = "its share of the device while others want it too";
const REMEDY: &str =
    "no scheduler with weights is there: `modprobe bfq`, and `echo bfq > /sys/block/DISK/queue/scheduler`";
const MISSING: Missing = Missing::Refuse { limit: "blockIO.weight", remedy: REMEDY };
const MISSING_LEAF: Missing =
    Missing::Refuse { limit: "blockIO.leafWeight", remedy: "it went with the scheduler CFQ in Linux 5.0" };

/// The weight of `io.weight`, 1 to 10000, for one of 10 to 1000.
pub fn stretched(weight: u16) -> u32 {
    1 + (u32::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

/// What is to be written into the cgroup `dir`, by the files that it has.
pub(crate) fn settings(version: Version, limits: &Limits, dir: &Path) -> Vec<Setting> {
    let more = &limits.more;
    if more.io_weight.or(more.io_leaf_weight).is_none() && more.io_device_weights.is_empty() {
        return Vec::new();
    }
    let has = |file: &str| dir.join(file).exists();
    let (file, device_file, stretch) = match version {
        Version::V2 if has("io.bfq.weight") || !has("io.weight") => ("io.bfq.weight", "io.bfq.weight", false),
        Version::V2 => ("io.weight", "io.weight", true),
        Version::V1 if has("blkio.weight") => ("blkio.weight", "blkio.weight_device", false),
        Version::V1 => ("blkio.bfq.weight", "blkio.bfq.weight_device", false),
    };
    let value = |weight: u16| if stretch { stretched(weight) } else { u32::from(weight) };
    let setting =
        |file: &str, text: &str, missing| Setting::new(file, &text, "blockIO.weight", WHY).missing(missing);
    let mut settings = Vec::new();
    settings.extend(more.io_weight.map(|it| setting(file, &value(it).to_string(), MISSING)));
    settings
        .extend(more.io_leaf_weight.map(|it| setting("blkio.leaf_weight", &it.to_string(), MISSING_LEAF)));
    for device in &more.io_device_weights {
        let line = |weight: u32| format!("{}:{} {weight}", device.major, device.minor);
        settings.extend(device.weight.map(|it| setting(device_file, &line(value(it)), MISSING)));
        let leaf = device.leaf_weight.map(|it| line(u32::from(it)));
        settings.extend(leaf.map(|it| setting("blkio.leaf_weight_device", &it, MISSING_LEAF)));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IoWeight, More};

    #[test]
    fn the_ends_of_the_two_ranges_meet() {
        assert_eq!((stretched(10), stretched(1000), stretched(500)), (1, 10_000, 4950));
    }

    #[test]
    fn the_file_is_the_one_that_the_kernel_has() {
        let devices = vec![IoWeight { major: 8, minor: 0, weight: Some(1000), leaf_weight: None }];
        let more = More { io_weight: Some(10), io_device_weights: devices, ..More::default() };
        let limits = Limits { more, ..Limits::default() };
        let plan = |version, file: &str| -> Vec<_> {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(file), "").unwrap();
            settings(version, &limits, dir.path())
                .into_iter()
                .map(|it| format!("{}={}", it.file, it.value))
                .collect()
        };
        assert_eq!(plan(Version::V2, "io.weight"), ["io.weight=1", "io.weight=8:0 10000"]);
        assert_eq!(plan(Version::V2, "io.bfq.weight"), ["io.bfq.weight=10", "io.bfq.weight=8:0 1000"]);
        assert_eq!(plan(Version::V1, "blkio.weight"), ["blkio.weight=10", "blkio.weight_device=8:0 1000"]);
        assert_eq!(plan(Version::V1, "x"), ["blkio.bfq.weight=10", "blkio.bfq.weight_device=8:0 1000"]);
    }
}
