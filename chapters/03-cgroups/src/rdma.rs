//! Beyond this chapter: what may be opened and made on RDMA devices, network cards that read other machines' memory.
//!
//! | what | version 2 | version 1 |
//! |---|---|---|
//! | limit | `rdma.max`: `mlx5_0 hca_handle=2 hca_object=2000` | `rdma.max` |
//! | in use | `rdma.current` | `rdma.current` |
//!
//! Such a card has a fixed number of handles and objects, and one process can take them all.
//!
//! See kernel: cgroup-v2.rst "RDMA", cgroup-v1/rdma.rst.

use crate::Limits;
use crate::file::Setting;

/// What is to be written, a line for each device.
pub(crate) fn settings(limits: &Limits) -> Vec<Setting> {
    let setting = |rdma: &crate::RdmaMax| {
        let key = |name: &str, value: Option<u32>| value.map_or(String::new(), |it| format!(" {name}={it}"));
        let line =
            format!("{}{}{}", rdma.device, key("hca_handle", rdma.handles), key("hca_object", rdma.objects));
        Setting::new("rdma.max", &line, "rdma", "above this the card gives it nothing")
    };
    limits.more.rdma.iter().map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{More, RdmaMax};

    #[test]
    fn only_what_is_given_is_in_the_line() {
        let rdma = vec![RdmaMax { device: "mlx5_0".into(), handles: None, objects: Some(20) }];
        let limits = Limits { more: More { rdma, ..More::default() }, ..Limits::default() };
        assert_eq!(settings(&limits)[0].value, "mlx5_0 hca_object=20");
    }
}
