//! `linux.netDevices`: the host's links that become the container's, translated for chapter 5.
//!
//! See runtime-spec: config-linux.md, "Network Devices".

use ::namespaces::Kind;
use network::moved::Moved;
use oci_spec::runtime::Linux;

use crate::Error;
use crate::namespaces::Namespaces;

/// Reads `linux.netDevices` and looks at the links, in the order of their names.
///
/// # Errors
/// [`Error::Config`] for names that cannot be, and without a network namespace and the right to move a link into it; the step
/// where a link is not there.
pub(crate) fn plan(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Moved>, Error> {
    let Some(devices) = linux.net_devices().as_ref().filter(|devices| !devices.is_empty()) else {
        return Ok(Vec::new());
    };
    let wrong = |name: &str, reason: &str| Err(Error::config(format!("linux.netDevices.{name}"), reason));
    if !namespaces.has(Kind::Network) {
        return wrong("", "the container shares the host's network namespace, where they are already");
    }
    let mut names: Vec<_> = devices
        .iter()
        .map(|(name, device)| (name, device.name().as_ref().filter(|new| !new.is_empty()).unwrap_or(name)))
        .collect();
    names.sort();
    for (at, (name, new)) in names.iter().enumerate() {
        if !is_name(name) || !is_name(new) {
            return wrong(name, "a link's name has 1 to 15 bytes, without blanks, / and :");
        }
        if names[..at].iter().any(|(_, other)| other == new) {
            return wrong(name, "two links cannot have one name");
        }
    }
    Ok(names.into_iter().map(|(name, new)| Moved::find(name, new)).collect::<Result<_, _>>()?)
}

/// As the kernel takes them.
fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !"/:%\0".contains(c);
    (1..=15).contains(&name.len()) && ![".", ".."].contains(&name) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        assert!(["eth0", "a.100", "enp0s31f6"].into_iter().all(is_name));
        assert!(!["", ".", "..", "a/b", "a b", "a:b", "eth%d", "sixteen-bytes-xx"].into_iter().any(is_name));
    }

    #[test]
    fn they_need_a_namespace_and_each_a_name() {
        for json in [
            r#"{"namespaces":[{"type":"mount"}],"netDevices":{"lo":{}}}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"network"}],"netDevices":{"lo":{"name":"x"},"eth9":{"name":"x"}}}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"network"}],"netDevices":{"lo":{"name":"a/b"}}}"#,
        ] {
            let linux = serde_json::from_str(json).unwrap();
            let error = plan(&linux, &Namespaces::new(&linux).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with("config: linux.netDevices."), "{error}");
        }
    }
}
