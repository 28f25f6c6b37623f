//! What has a name that no mount hides: abstract sockets, and keys.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use serde_json::json;
use tests::{Host, Outcome, Test};

use super::super::{ROOT, script};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::attacks::abstract_sockets_of_the_host", needs: ROOT, run: abstract_sockets },
        Test { name: "runtime::attacks::the_callers_keys", needs: ROOT, run: the_callers_keys },
    ]
}

/// They belong to the network namespace.
fn abstract_sockets(host: &Host) -> Outcome {
    let _shim = UnixListener::bind_addr(&SocketAddr::from_abstract_name("sampan-test-shim")?)?;
    let text = "grep -c @sampan-test-shim /proc/net/unix";
    assert_eq!(script(host, text, |_| {})?.stdout, "0\n");
    let shared = script(host, text, |config| {
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != "network");
        }
    })?;
    assert_eq!(shared.stdout, "1\n", "with the host's network it is there to be found: {shared:?}");
    Ok(())
}

/// A key that whoever runs the runtime has in the session, read by its number, which is easily guessed or found in /proc/keys.
#[allow(unsafe_code)]
fn the_callers_keys(host: &Host) -> Outcome {
    const JOIN_SESSION: libc::c_long = 1;
    const READ: libc::c_long = 11;
    const SESSION: libc::c_long = -3;
    // SAFETY: the name of the keyring may be null; no memory is touched.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION, std::ptr::null::<libc::c_char>()) };
    // SAFETY: three C strings, the third with its length, all static.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            c"sampan-test".as_ptr(),
            c"secret".as_ptr(),
            6,
            SESSION,
        )
    };
    if joined < 0 || key < 0 {
        return Err("this kernel has no keys".into());
    }
    let call = format!("{} {READ} {key} 0 0", libc::SYS_keyctl);
    let text = format!("/kit/probe call {call}");
    let filtered = script(host, &text, |_| {})?;
    assert!(filtered.stdout.contains("EPERM"), "the filter forbids it: {filtered:?}");
    let unfiltered = script(host, &text, |config| config["linux"]["seccomp"] = json!(null))?;
    assert!(unfiltered.stdout.contains("EACCES"), "the session has no such key: {unfiltered:?}");
    let words: Vec<&str> = ["call"].into_iter().chain(call.split(' ')).collect();
    host.command("probe", words)?.success()?;
    Ok(())
}
