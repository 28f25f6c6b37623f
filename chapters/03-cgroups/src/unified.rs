//! Beyond this chapter: any file of version 2, written as it is given.
//!
//! New limits come to the kernel faster than to a specification; `memory.high` and `io.latency` are asked for this way. The
//! name is a name and no path, and the controller that it belongs to must be there. They are written last, in their order, so that they
//! have the last word.
//!
//! See runtime-spec: config-linux.md, "Unified"; kernel: cgroup-v2.rst.

use crate::Limits;
use crate::file::{Missing, Setting};

/// What is to be written.
pub(crate) fn settings(limits: &Limits) -> Vec<Setting> {
    let missing = Missing::Refuse { limit: "unified", remedy: "`ls` in that directory shows what it has" };
    let setting = |(file, value): &(String, String)| {
        Setting::new(file.as_str(), value, "unified", "asked for by this name").missing(missing)
    };
    limits.more.unified.iter().map(setting).collect()
}
