//! The translation, field by field.

use super::*;

fn changed(json: &str) -> Result<Limits, Error> {
    changes(&serde_json::from_str(json).unwrap())
}

fn translated(json: &str) -> Limits {
    changed(json).unwrap()
}

#[test]
fn limits_are_translated_one_by_one() {
    let json = r#"{"memory":{"limit":67108864,"swap":-1},"cpu":{"quota":50000,"period":100000,"shares":1024,"cpus":"0-1",
        "burst":5,"idle":1},"pids":{"limit":7},"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}],
        "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":6}],"weightDevice":[{"major":8,"minor":0,"weight":20}]},
        "network":{"classID":9,"priorities":[{"name":"lo","priority":3}]},"rdma":{"m0":{"hcaHandles":2}},
        "unified":{"memory.high":"5"},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#;
    let limits = translated(json);
    assert_eq!((limits.memory, limits.memory_swap, limits.pids), (Some(64 << 20), Some(-1), Some(7)));
    assert_eq!(limits.cpu_max, Some(CpuMax { quota: Some(50_000), period: 100_000 }));
    assert_eq!((limits.cpu_shares, limits.cpuset.as_deref()), (Some(1024), Some("0-1")));
    let io = IoMax { major: 8, minor: 0, rbps: Some(5), wbps: Some(6), ..IoMax::default() };
    assert_eq!(limits.io_max, [io]);
    assert_eq!(limits.hugetlb, [("2MB".to_owned(), 0)]);
    let more = &limits.more;
    assert_eq!((more.cpu_burst, more.cpu_idle, more.io_weight), (Some(5), Some(1), Some(10)));
    assert_eq!(
        more.io_device_weights,
        [IoWeight { major: 8, minor: 0, weight: Some(20), leaf_weight: None }]
    );
    assert_eq!((more.net_class, more.net_priorities.as_slice()), (Some(9), &[("lo".to_owned(), 3)][..]));
    assert_eq!(more.rdma, [RdmaMax { device: "m0".into(), handles: Some(2), objects: None }]);
    assert_eq!(more.unified, [("memory.high".to_owned(), "5".to_owned())]);
}

#[test]
fn zero_was_never_set_and_minus_one_is_no_limit() {
    let json = r#"{"memory":{"limit":0,"swap":0},"cpu":{"quota":0,"period":0,"shares":0,"cpus":""},"pids":{"limit":0}}"#;
    assert!(Limits { more: More::default(), ..translated(json) } == Limits::default());
    let limits = translated(r#"{"memory":{"limit":-1},"cpu":{"quota":-1}}"#);
    assert_eq!((limits.memory, limits.memory_swap), (Some(u64::MAX), Some(-1)));
    assert_eq!(limits.cpu_max, Some(CpuMax { quota: None, period: PERIOD }));
    assert!(changed(r#"{"memory":{"swap":5}}"#).is_err());
}

#[test]
fn without_a_word_of_devices_the_default_ones_are_allowed() {
    let limits = limits(None).unwrap();
    assert!(limits.is_empty(), "they are no limit");
    let rules = limits.more.devices.clone().unwrap();
    assert_eq!(rules.len(), 10);
    assert!(rules.iter().all(|rule| rule.allow) && !allows_everything(&limits.more));
}

#[test]
fn all_devices_are_allowed_only_by_a_rule_for_all() {
    let opened = |rules: &str| {
        let json = format!(r#"{{"devices":{rules}}}"#);
        allows_everything(&limits(Some(&serde_json::from_str(&json).unwrap())).unwrap().more)
    };
    assert!(!opened("[]"));
    assert!(!opened(r#"[{"allow":true,"access":"rwm"},{"allow":false,"access":"rwm"}]"#));
    assert!(!opened(r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","access":"w"}]"#));
    assert!(!opened(r#"[{"allow":true,"type":"c","access":"m"}]"#));
    assert!(opened(r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#));
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    for rule in [
        r#"{"allow":true,"type":"p"}"#,
        r#"{"allow":true,"type":"c","access":"rx"}"#,
        r#"{"allow":true,"type":"c","major":4096}"#,
        r#"{"allow":true,"type":"c","major":-2}"#,
    ] {
        let error = changed(&format!(r#"{{"devices":[{rule}]}}"#)).unwrap_err().to_string();
        assert!(error.starts_with("config: linux.resources.devices"), "{error}");
    }
    let rules =
        translated(r#"{"devices":[{"allow":true,"type":"c","major":-1,"minor":3}]}"#).more.devices.unwrap();
    assert_eq!((rules[0].major, rules[0].minor), (None, Some(3)));
}
