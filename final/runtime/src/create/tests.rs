//! `config.json` as nobody would write it: whatever is in it is planned or refused, and nothing panics.
//!
//! Two kinds: a good configuration with a few of its values replaced, taken away or doubled, which gets far; and any JSON at all,
//! which does not. That a container is never half made of such a one is tested with the binary, against the kernel.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::defaults::Defaults;

/// Everything that is computed before the first call that changes anything.
fn planned(text: &[u8]) -> Result<(), String> {
    let (spec, _) = crate::config::parse(text).map_err(|error| error.to_string())?;
    let told = |error: Error| error.to_string();
    let linux = spec.linux().as_ref().ok_or("no linux")?;
    let process = spec.process().as_ref().ok_or("no process")?;
    refuse_unsupported(linux).map_err(told)?;
    let namespaces = Namespaces::new(linux).map_err(told)?;
    namespaces.check(&spec, linux).map_err(told)?;
    sysctl::plan(linux, &namespaces).map_err(told)?;
    let (status, bundle) = (ContainerState::Creating, Path::new("/bundle"));
    let about = About { id: "x", status, bundle, spec: &spec };
    let around = Around { about, die_with_parent: true, keep_keyring: false, preserve_fds: 0 };
    Program::new(process, linux, &around).map_err(told)?;
    mounts::plan(&spec, bundle, &namespaces, None).map_err(told)?;
    crate::resources::limits(linux.resources().as_ref()).map_err(told)?;
    let _ = Devices::new(linux, None);
    Ok(())
}

/// A good configuration, with something in each field that has a plan of its own.
fn good() -> Value {
    let defaults =
        Defaults { args: vec!["/bin/true".into()], hostname: Some("h".into()), ..Defaults::default() };
    let mut config = serde_json::to_value(defaults.spec()).unwrap();
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }]);
    config["process"]["oomScoreAdj"] = json!(5);
    config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    config["linux"]["devices"] = json!([{ "path": "/dev/full2", "type": "c", "major": 1, "minor": 7, "fileMode": 438, "uid": 0, "gid": 0 }]);
    config["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864 });
    config["linux"]["resources"]["pids"] = json!({ "limit": 16 });
    if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
        all.push(json!({ "type": "time" }));
    }
    config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1, "nanosecs": 2 } });
    config["annotations"] = json!({ "org.example": "value" });
    config
}

/// The pointers (RFC 6901) of all values in it.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                pointers(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                pointers(value, &format!("{at}/{number}"), all);
            }
        }
        _ => {}
    }
}

/// A value that is likely to be wrong in an interesting way, and now and then right.
fn leaf() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(i64::MIN)),
        Just(json!(u64::MAX)),
        Just(json!(1.5)),
        any::<i32>().prop_map(|number| json!(number)),
    ];
    let text = prop_oneof![
        Just(String::new()),
        Just("/".to_owned()),
        Just("..".to_owned()),
        Just("a\0b".to_owned()),
        Just("x".repeat(5000)),
        Just("/proc/self/fd/0".to_owned()),
        Just("rbind".to_owned()),
        Just("tmpcopyup".to_owned()),
        Just("SCMP_ACT_NOTIFY".to_owned()),
        Just("CAP_SYS_ADMIN".to_owned()),
        Just("user".to_owned()),
        Just("0-3,7".to_owned()),
        any::<String>(),
        "/[a-z./]{0,12}",
    ];
    prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::Bool), number, text.prop_map(Value::String)]
}

fn anything() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        "[a-zA-Z]{1,8}",
        Just("type".to_owned()),
        Just("path".to_owned()),
        Just("linux".to_owned())
    ];
    leaf().prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((name.clone(), inner), 0..5).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

/// What is done to a value: replaced, taken away, or, in a list, there twice.
fn change(config: &mut Value, at: &str, how: u8, with: Value) {
    let Some((parent, name)) = at.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    match (config.pointer_mut(parent), how) {
        (Some(Value::Object(map)), 0) => drop(map.remove(&name)),
        (Some(Value::Array(list)), 0..=1) => {
            if let Some(number) = name.parse().ok().filter(|number: &usize| *number < list.len()) {
                if how == 0 {
                    list.remove(number);
                } else {
                    list.push(list[number].clone());
                }
            }
        }
        _ => {
            if let Some(value) = config.pointer_mut(at) {
                *value = with;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_configuration_that_was_changed_is_planned_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..6, anything()), 1..5)
    ) {
        let mut config = good();
        for (index, how, with) in changes {
            let mut all = Vec::new();
            pointers(&config, "", &mut all);
            let at = index.get(&all).clone();
            change(&mut config, &at, how, with);
        }
        let _ = planned(config.to_string().as_bytes());
    }

    #[test]
    fn any_json_is_planned_or_refused(config in anything()) {
        let _ = planned(config.to_string().as_bytes());
    }

    #[test]
    fn a_configuration_that_was_cut_or_flipped_is_refused_or_planned(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let mut text = good().to_string().into_bytes();
        let at = at.index(text.len());
        if cut {
            text.truncate(at);
        } else {
            text[at] ^= 1 << bit;
        }
        let outcome = planned(&text);
        prop_assert!(!cut || outcome.is_err());
    }
}

/// The others would prove nothing if this were refused.
#[test]
fn the_good_one_is_good() {
    planned(good().to_string().as_bytes()).unwrap();
}
