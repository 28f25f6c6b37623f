//! Read `config.json`, and what of it is passed over with a warning.
//!
//! A configuration may be newer than this program or than the kernel. A *capability* that is not known cannot be given; the
//! specification wants a warning then, and the container. Anything else that is not known is an error.
//!
//! The flags of `process.scheduler` have other names in the types that we use than in the specification: they are renamed here.
//!
//! The text is read once as what it is meant to be; only where that fails is it looked at in detail.
//!
//! See runtime-spec: config.md.

use oci_spec::runtime::{Capability, LinuxNamespaceType, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::capabilities;

/// Reads a `config.json`. Beside it: warnings.
///
/// # Errors
/// Where it is no JSON, or not of the specification's form.
pub fn parse(text: &[u8]) -> serde_json::Result<(Spec, Vec<String>)> {
    let (spec, mut warnings): (Spec, _) = read(text, |value| value.get_mut("process"))?;
    let namespaces = spec.linux().iter().flat_map(|linux| linux.namespaces()).flatten();
    // In a user namespace its first process holds all that there are.
    if !namespaces.into_iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User)
        && let Some(process) = spec.process()
    {
        warnings.extend(not_held(process));
    }
    Ok((spec, warnings))
}

/// Reads a process alone, as `exec --process` takes it. Beside it: warnings.
///
/// # Errors
/// As for [`parse`].
pub fn parse_process(text: &[u8]) -> serde_json::Result<(Process, Vec<String>)> {
    read(text, |value| Some(value))
}

fn read<T: DeserializeOwned>(
    text: &[u8],
    process: impl Fn(&mut Value) -> Option<&mut Value>,
) -> serde_json::Result<(T, Vec<String>)> {
    serde_json::from_slice(text).map(|read| (read, Vec::new())).or_else(|error| {
        let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return Err(error) };
        let warnings = process(&mut value).map(mend).unwrap_or_default();
        // The first error tells the line.
        serde_json::from_value(value).map(|read| (read, warnings)).map_err(|_| error)
    })
}

fn mend(process: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        for names in sets.values_mut().filter_map(Value::as_array_mut) {
            names.retain(|name| {
                let known = !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok();
                if let (false, Some(name)) = (known, name.as_str()) {
                    unknown.push(name.to_owned());
                }
                known
            });
        }
    }
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
            _ => {}
        }
    }
    unknown.sort();
    unknown.dedup();
    unknown.iter().map(|name| format!("process.capabilities: {name} is not known, and not given")).collect()
}

/// What is asked for, and not had by this process either.
fn not_held(process: &Process) -> Option<String> {
    let lacking = capabilities::not_held(process.capabilities().as_ref()?);
    (!lacking.is_empty())
        .then(|| format!("process.capabilities: {lacking} cannot be given: this process lacks it itself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(more: &str) -> serde_json::Result<(Process, Vec<String>)> {
        parse_process(format!(r#"{{"user":{{}},"cwd":"/","args":["a"],{more}}}"#).as_bytes())
    }

    #[test]
    fn an_unknown_capability_is_passed_over_with_a_warning() {
        let sets = r#"{"bounding":["CAP_KILL","CAP_TIME_TRAVEL"],"effective":["CAP_TIME_TRAVEL"]}"#;
        let (process, warnings) = process(&format!(r#""capabilities":{sets}"#)).unwrap();
        let capabilities = process.capabilities().clone().unwrap();
        assert_eq!(
            capabilities.bounding().clone().unwrap().into_iter().collect::<Vec<_>>(),
            [Capability::Kill]
        );
        assert_eq!(warnings, ["process.capabilities: CAP_TIME_TRAVEL is not known, and not given"]);
    }

    #[test]
    fn the_schedulers_flags_have_the_specifications_names() {
        let flags = [
            "RESET_ON_FORK",
            "RECLAIM",
            "DL_OVERRUN",
            "KEEP_POLICY",
            "KEEP_PARAMS",
            "UTIL_CLAMP_MIN",
            "UTIL_CLAMP_MAX",
        ];
        for flag in flags {
            process(&format!(r#""scheduler":{{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_{flag}"]}}"#))
                .unwrap();
        }
    }

    #[test]
    fn anything_else_unknown_is_an_error_that_tells_where() {
        let error = process(r#""rlimits":[{"type":"RLIMIT_LUCK"}]"#).unwrap_err().to_string();
        assert!(error.contains("RLIMIT_LUCK") && error.contains("line 1"), "{error}");
        assert!(parse(b"{").is_err());
    }
}
