//! The API over a real socket, in the words of HTTP/1.1: what a client sees, and what is left when the server ends.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sampan_engine::Engine;

/// One request on a connection of its own; the whole answer.
fn ask(socket: &Path, request: &str) -> String {
    exchange(socket, request).unwrap_or_else(|error| format!("no answer: {error}"))
}

fn exchange(socket: &Path, request: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn wait_for(what: &str, holds: impl Fn() -> bool) {
    assert!(
        (0..2400).any(|_| {
            thread::sleep(Duration::from_millis(25));
            holds()
        }),
        "{what}"
    );
}

/// One test, because a signal is the whole process's.
#[test]
fn a_server_answers_twenty_at_once_and_leaves_no_socket() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(Some(folder.path().join("data")), Some(folder.path().join("run"))).unwrap();
    let socket = folder.path().join("sampan.sock");
    // Somebody's file is no socket that a dead server left.
    fs::write(&socket, "kept").unwrap();
    assert!(sampan_api::serve(engine.clone(), &socket).is_err());
    assert_eq!(fs::read_to_string(&socket).unwrap(), "kept");
    fs::remove_file(&socket).unwrap();
    // What a killed server leaves is.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());

    let server = thread::spawn({
        let (engine, socket) = (engine.clone(), socket.clone());
        move || sampan_api::serve(engine, &socket)
    });
    wait_for("it listens", || UnixStream::connect(&socket).is_ok());
    wait_for("it is closed to others", || {
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777 == 0o600
    });
    assert!(sampan_api::serve(engine, &socket).is_err(), "a second server finds the first");

    assert!(ask(&socket, "GET /_ping").to_lowercase().contains("api-version: 1.43"));
    assert!(ask(&socket, "GET /v1.43/images/json").ends_with("\r\n\r\n[]"));
    let version = ask(&socket, "GET /version");
    assert!(version.starts_with("HTTP/1.1 200") && version.contains("\"ApiVersion\":\"1.43\""), "{version}");
    let missing = ask(&socket, "GET /v1.43/no/such/page");
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("\"message\":"), "{missing}");

    let many: Vec<_> = (0..20)
        .map(|_| {
            let socket = socket.clone();
            thread::spawn(move || ask(&socket, "GET /v1.43/containers/json?all=1"))
        })
        .collect();
    for answer in many {
        let answer = answer.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[]"), "{answer}");
    }

    kill(Pid::this(), Signal::SIGTERM).unwrap();
    wait_for("it ends", || server.is_finished());
    server.join().unwrap().unwrap();
    assert!(!socket.exists());
}
