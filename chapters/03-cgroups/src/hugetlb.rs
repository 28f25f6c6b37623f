//! Huge pages: memory that no other limit counts.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | limit for one size of page | `hugetlb.2MB.max` | `hugetlb.2MB.limit_in_bytes` |
//!
//! Huge pages are set aside by the administrator and are counted by no `memory.max`; above this limit mmap(2) of one succeeds
//! and touching it gives SIGBUS.
//!
//! See kernel: cgroup-v2.rst "HugeTLB".

use crate::Limits;
use crate::file::{Missing, Setting};
use crate::hierarchy::Version;

/// What is to be written.
pub(crate) fn settings(version: Version, limits: &Limits) -> Vec<Setting> {
    let end = match version {
        Version::V2 => "max",
        Version::V1 => "limit_in_bytes",
    };
    let remedy = "write the size of page as in /sys/kernel/mm/hugepages: 2MB, 1GB";
    let setting = |(size, bytes): &(String, u64)| {
        Setting::new(
            format!("hugetlb.{size}.{end}"),
            bytes,
            "--hugetlb",
            "above this a huge page gives SIGBUS",
        )
        .missing(Missing::Refuse { limit: "--hugetlb", remedy })
    };
    limits.hugetlb.iter().map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_page_is_part_of_the_file() {
        let limits = Limits { hugetlb: vec![("2MB".into(), 0)], ..Limits::default() };
        assert_eq!(settings(Version::V2, &limits)[0].file, "hugetlb.2MB.max");
        assert_eq!(settings(Version::V1, &limits)[0].file, "hugetlb.2MB.limit_in_bytes");
    }
}
