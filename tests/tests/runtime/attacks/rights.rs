//! Capabilities and set-user-id programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tests::{Host, Outcome, Test};

use super::super::{Bundle, ROOT, probed, status};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::attacks::nothing_is_inheritable", needs: ROOT, run: nothing_is_inheritable },
        Test { name: "runtime::attacks::setuid_gives_nothing", needs: ROOT, run: setuid_gives_nothing },
    ]
}

/// A file with inheritable capabilities would give a user's program what is in the process's inheritable set.
fn nothing_is_inheritable(host: &Host) -> Outcome {
    for user in [0, 1000] {
        let bundle = Bundle::new(host, &["/bin/sleep", "100"], |config| {
            config["process"]["user"] = json!({ "uid": user, "gid": user });
        })?;
        bundle.call(&["run", "--detach", "c"])?.success()?;
        let pid = bundle.pid("c")?;
        assert_eq!(status(pid, "CapInh")?, "0000000000000000", "user {user}");
        assert_eq!(status(pid, "CapAmb")?, "0000000000000000", "user {user}");
        assert_ne!(status(pid, "CapBnd")?, "0000000000000000", "there is something that could be inherited");
        let report = bundle.call(&["exec", "c", "/kit/probe"])?.success()?.json()?;
        assert_eq!(
            (&report["capabilities"]["inheritable"], &report["capabilities"]["ambient"]),
            (&json!([]), &json!([])),
            "exec as {user}"
        );
        bundle.call(&["delete", "--force", "c"])?.success()?;
    }
    // What is asked for is given: the test would see it.
    let asked = probed(host, |config| {
        config["process"]["capabilities"]["inheritable"] = json!(["CAP_NET_RAW"]);
    })?;
    assert_eq!(asked["capabilities"]["inheritable"], json!(["CAP_NET_RAW"]));
    Ok(())
}

/// The effective user of a program that belongs to root and is set-user-id.
fn setuid_gives_nothing(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    let program = rootfs.join("kit/setuid");
    fs::copy(rootfs.join("kit/probe"), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    for (strict, user) in [(true, 1000), (false, 0)] {
        let report = Bundle::new(host, &["/kit/setuid"], |config| {
            config["root"]["path"] = json!(rootfs);
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config["process"]["noNewPrivileges"] = json!(strict);
        })?
        .run()?
        .success()?
        .json()?;
        assert_eq!(report["uid"], json!(user), "no_new_privs {strict}");
        assert_eq!(report["capabilities"]["effective"] == json!([]), strict, "no_new_privs {strict}");
    }
    Ok(())
}
