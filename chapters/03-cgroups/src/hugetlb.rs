//! Huge pages: memory that no other limit counts.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | limit for one size of page | `hugetlb.2MB.max` | `hugetlb.2MB.limit_in_bytes` |
//! | the same for what is reserved | `hugetlb.2MB.rsvd.max` | `hugetlb.2MB.rsvd.limit_in_bytes` |
//!
//! Huge pages are set aside by the administrator and are counted by no `memory.max`; above this limit mmap(2) of one succeeds
//! and touching it gives SIGBUS. Reserving is counted since Linux 5.7, where the second file is: there mmap(2) itself is refused.
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
    let settings = |(size, bytes): &(String, u64)| {
        let value = match version {
            _ if *bytes < u64::MAX => bytes.to_string(),
            Version::V2 => "max".to_owned(),
            Version::V1 => "-1".to_owned(),
        };
        let setting = |middle: &str, why| {
            Setting::new(format!("hugetlb.{size}.{middle}{end}"), &value, "--hugetlb", why)
        };
        [
            setting("", "above this a huge page gives SIGBUS")
                .missing(Missing::Refuse { limit: "--hugetlb", remedy }),
            setting("rsvd.", "above this mmap of huge pages is refused").missing(Missing::Skip),
        ]
    };
    limits.hugetlb.iter().flat_map(settings).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_page_is_part_of_the_file() {
        let limits = Limits { hugetlb: vec![("2MB".into(), 0)], ..Limits::default() };
        let files = |version| settings(version, &limits).into_iter().map(|it| it.file).collect::<Vec<_>>();
        assert_eq!(files(Version::V2), ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]);
        assert_eq!(files(Version::V1), ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"]);
    }
}
