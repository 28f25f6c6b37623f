//! `features`: what is listed is what a container can have.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Host, Outcome, Test};

use super::{Bundle, ROOT};

pub(super) fn tests() -> Vec<Test> {
    let root = |name, run| Test { name, needs: ROOT, run };
    vec![
        root("runtime::features_mounts_can_be_had", mounts),
        root("runtime::features_namespaces_and_capabilities_can_be_had", namespaces),
        root("runtime::features_filters_can_be_had", filters),
        root("runtime::features_hooks_are_run", hooks),
    ]
}

fn listed(host: &Host) -> super::Result<(Bundle<'_>, Value)> {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    let features = bundle.call(&["features"])?.success()?.json()?;
    Ok((bundle, features))
}

fn list(features: &Value, pointer: &str) -> Vec<String> {
    let list = features.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn mounts(host: &Host) -> Outcome {
    let (bundle, features) = listed(host)?;
    let options = list(&features, "/mountOptions");
    assert!(options.len() > 20, "{options:?}");
    assert!(
        options.iter().all(|option| !option.ends_with("mand")),
        "the kernel has no mandatory locks any more"
    );
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    // All that go together in one container: each would start one of its own otherwise.
    let folder = host.new_dir()?;
    bundle.rewrite(&["/bin/true"], |config| {
        let mounts = config["mounts"].as_array_mut().into_iter().next();
        let all = options.iter().map(|option| one_mount(option, &folder));
        mounts.into_iter().for_each(|mounts| mounts.extend(all.clone()));
    })?;
    bundle.run()?.success()?;
    Ok(())
}

fn namespaces(host: &Host) -> Outcome {
    let (bundle, features) = listed(host)?;
    assert_eq!(
        list(&features, "/linux/namespaces"),
        ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]
    );
    let namespaces = list(&features, "/linux/namespaces");
    bundle.rewrite(&["/bin/true"], |config| {
        let ids = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        config["linux"]["uidMappings"] = ids.clone();
        config["linux"]["gidMappings"] = ids;
        config["linux"]["namespaces"] = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
    })?;
    bundle.run()?.success()?;
    for name in list(&features, "/linux/capabilities").iter().take(5) {
        bundle.rewrite(&["/bin/true"], |config| {
            config["process"]["capabilities"]["bounding"] = json!([name]);
            config["process"]["capabilities"]["effective"] = json!([]);
            config["process"]["capabilities"]["permitted"] = json!([]);
        })?;
        bundle.run()?.success()?;
    }
    Ok(())
}

fn filters(host: &Host) -> Outcome {
    let (bundle, features) = listed(host)?;
    for (at, action) in list(&features, "/linux/seccomp/actions").iter().enumerate() {
        let operators = list(&features, "/linux/seccomp/operators");
        let operator = &operators[at % operators.len()];
        bundle.rewrite(&["/bin/true"], |config| {
            // A call that nobody makes. Without an agent there is nobody to be asked.
            let action = if action.ends_with("NOTIFY") { "SCMP_ACT_LOG" } else { action };
            let args = json!([{ "index": 0, "value": 1, "valueTwo": 1, "op": operator }]);
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": list(&features, "/linux/seccomp/supportedFlags"),
                "architectures": list(&features, "/linux/seccomp/archs"), "syscalls": [{ "names": ["swapoff"], "action": action, "args": args }] });
        })?;
        bundle.run()?.success().map_err(|error| format!("{action} {operator}: {error}"))?;
    }
    Ok(())
}

fn hooks(host: &Host) -> Outcome {
    let (bundle, features) = listed(host)?;
    assert_eq!(list(&features, "/hooks").len(), 6);
    let told = host.new_dir()?.join("hooks");
    bundle.rewrite(&["/bin/true"], |config| {
        super::bind(config, told.parent().unwrap_or(&told), "/mark", &["rbind"]);
        for hook in list(&features, "/hooks") {
            let folder = if hook == "startContainer" { "/mark".into() } else { told.with_file_name("") };
            let text = format!("echo {hook} >> {}/hooks", folder.display());
            config["hooks"][&hook] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", text] }]);
        }
    })?;
    bundle.run()?.success()?;
    let mut ran: Vec<_> = fs::read_to_string(&told)?.lines().map(str::to_owned).collect();
    let mut listed = list(&features, "/hooks");
    ran.sort();
    listed.sort();
    assert_eq!(ran, listed);
    Ok(())
}

/// A mount with this option, at a place of its own; one that it can be used on.
fn one_mount(option: &str, folder: &Path) -> Value {
    let (kind, source) = if option.contains("bind") && option != "unbindable" && option != "runbindable" {
        ("bind", "/etc")
    } else {
        ("tmpfs", "tmpfs")
    };
    let mut mount = json!({ "destination": format!("/mnt/{option}"), "type": kind, "source": source, "options": [option] });
    if option == "remount" {
        mount["destination"] = json!("/mnt/async");
    }
    if option.contains("idmap") {
        let ids = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
        mount["uidMappings"] = ids.clone();
        mount["gidMappings"] = ids;
        // Not every kernel's tmpfs can do it: a folder where the tests work, which may be on a disk.
        mount["source"] = json!(folder);
        mount["type"] = json!("bind");
        mount["options"] = json!(["bind", option]);
    }
    mount
}
