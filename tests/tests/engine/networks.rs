//! Network modes and published ports: packets that arrive, and that do not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tests::{Host, Need, Outcome, Test, ns_inode, wait_until};

use super::{NET, Result, Sampan};

const USER_NET: &[Need] = &[
    Need::UserNamespaces,
    Need::OverlayUser,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("pasta"),
    Need::Tun0666,
];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("engine::network_modes", NET, network_modes),
        test("engine::a_published_port_answers", NET, published),
        test("engine::an_ordinary_user_publishes_a_port", USER_NET, rootless_port),
    ]
}

fn network_modes(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let own = ns_inode(i32::try_from(std::process::id())?, "net")?;
    let inode = |inside: &Value| inside["namespaces"]["network"].as_u64();
    let none = sampan.probe(&["--network", "none"])?;
    assert_ne!(inode(&none), Some(own));
    assert_eq!(none["interfaces"].as_array().map(Vec::len), Some(1), "{none}");
    assert_eq!(inode(&sampan.probe(&["--network", "host"])?), Some(own));
    let id = sampan.ok(&["run", "-d", "--name", "net1", "busybox", "sleep", "60"])?;
    assert_eq!(
        inode(&sampan.probe(&["--network", "container:net1"])?),
        Some(ns_inode(sampan.pid(&id)?, "net")?)
    );
    let address = sampan.state(&id)?["address"].as_str().ok_or("no address")?.to_owned();
    // Another container reaches it by its address.
    let ping = format!("for i in 1 2 3 4 5; do ping -c 1 -W 2 {address} && exit; done; exit 1");
    sampan.ok(&["run", "--rm", "busybox", "sh", "-c", &ping])?;
    assert!(sampan.ok(&["exec", "net1", "cat", "/etc/hosts"])?.contains(&address));
    assert_eq!(sampan.call(&["run", "--rm", "--network", "nowhere", "busybox", "true"])?.code, 125);
    sampan.ok(&["rm", "-f", "net1"])?;
    Ok(())
}

/// What an HTTP server answers; an empty page where nobody does.
fn get(address: &str) -> Result<String> {
    let mut page = String::new();
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(2))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn published(host: &Host) -> Outcome {
    let sampan = Sampan::new(host)?;
    let serve = "mkdir /web; echo a page > /web/index.html; exec httpd -f -h /web";
    let id = sampan.ok(&["run", "-d", "-p", "8080:80", "busybox", "sh", "-c", serve])?;
    wait_until("the page is served", Duration::from_secs(60), || {
        get("127.0.0.1:8080").is_ok_and(|page| page.contains("a page"))
    })?;
    let address = sampan.state(&id)?["address"].as_str().ok_or("no address")?.to_owned();
    assert!(get(&format!("{address}:80"))?.contains("a page"));
    let taken = sampan.call(&["run", "--rm", "-p", "8080:80", "busybox", "true"])?;
    assert!(taken.code == 125 && taken.stderr.contains("8080"), "{taken}");
    sampan.ok(&["rm", "-f", &id])?;
    assert!(get("127.0.0.1:8080").is_err(), "the rule is gone with the container");
    Ok(())
}

fn rootless_port(host: &Host) -> Outcome {
    let _outside = crate::ch05::Outside::make(host)?;
    let user = host.as_user();
    let sampan = Sampan::new(&user)?;
    let serve = "mkdir /web; echo a page > /web/index.html; exec httpd -f -h /web";
    let id = sampan.ok(&["run", "-d", "-p", "8080:80", "busybox", "sh", "-c", serve])?;
    wait_until("the page is served", Duration::from_secs(60), || {
        get("127.0.0.1:8080").is_ok_and(|page| page.contains("a page"))
    })?;
    sampan.ok(&["rm", "-f", &id])?;
    assert!(get("127.0.0.1:8080").is_err(), "the helper is gone with the container");
    Ok(())
}
