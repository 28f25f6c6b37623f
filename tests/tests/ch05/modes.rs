//! Whose network a container has.

use std::process;

use tests::{Host, Need, Outcome, Test, args, ns_inode};

use super::{BIN, BRIDGE, Container, all_gone, links};

const ROOT: &[Need] = &[Need::Root, Need::Rootfs];
const USER: &[Need] = &[Need::UserNamespaces, Need::Rootfs];

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch05::none_is_loopback_alone", needs: ROOT, run: none },
        Test { name: "ch05::user_none_is_loopback_alone", needs: USER, run: |host| none(&host.as_user()) },
        Test { name: "ch05::host_is_the_hosts", needs: ROOT, run: the_hosts },
        Test { name: "ch05::user_host_is_the_hosts", needs: USER, run: |host| the_hosts(&host.as_user()) },
        Test { name: "ch05::container_is_anothers", needs: BRIDGE, run: anothers },
        Test { name: "ch05::a_missing_container_is_explained", needs: ROOT, run: missing },
        Test { name: "ch05::ports_need_a_bridge", needs: ROOT, run: ports },
    ]
}

fn none(host: &Host) -> Outcome {
    let words = args![
        "--network",
        "none",
        host.rootfs()?,
        "/bin/sh",
        "-c",
        "ip address; ip route; ping -c1 127.0.0.1"
    ];
    let output = host.command(BIN, words)?.success()?;
    assert!(output.stdout.contains("1 packets received") && !output.stdout.contains("eth0"), "{output}");
    assert!(!links().iter().any(|name| name.starts_with("sampan")));
    Ok(())
}

fn the_hosts(host: &Host) -> Outcome {
    let container = host.spawn(
        BIN,
        args!["--network", "host", host.rootfs()?, "/bin/sh", "-c", "echo here-we-are; sleep 100"],
    )?;
    let mut container = Container(container);
    container.wait_for("here-we-are")?;
    let inner = container.inner()?;
    let ours = process::id().cast_signed();
    assert_eq!(ns_inode(inner, "net")?, ns_inode(ours, "net")?);
    assert_ne!(ns_inode(inner, "pid")?, ns_inode(ours, "pid")?);
    container.end()
}

fn anothers(host: &Host) -> Outcome {
    let first = Container::serve(host, &[], "8000")?;
    let mode = format!("container:{}", first.inner()?);
    let second = Container::serve(host, &["--network", &mode, "--hostname", "second"], "8001")?;
    assert_eq!(ns_inode(second.inner()?, "net")?, ns_inode(first.inner()?, "net")?);
    // They share also 127.0.0.1, and each sees what the other listens on.
    let words = args!["--network", mode, host.rootfs()?, "/kit/probe", "connect", "127.0.0.1:8001"];
    let said = host.command(BIN, words)?.success()?;
    assert!(said.stdout.contains("second 127.0.0.1"), "{said}");
    second.end()?;
    first.end()?;
    all_gone(host)
}

fn missing(host: &Host) -> Outcome {
    let words = args!["--network", "container:4194303", host.rootfs()?, "/bin/true"];
    let output = host.command(BIN, words)?.expect(125)?;
    assert!(output.stderr.contains("/proc/4194303/ns/net"), "{output}");
    assert!(output.stderr.contains("hint: no such process: give the pid"), "{output}");
    // The runtime process of a container is in the host's network: whoever names it must not be given that.
    let own = format!("container:{}", process::id());
    let output = host.command(BIN, args!["--network", own, host.rootfs()?, "/bin/true"])?.expect(125)?;
    assert!(output.stderr.contains("is in the host's own network"), "{output}");
    Ok(())
}

fn ports(host: &Host) -> Outcome {
    let words = args!["--network", "none", "-p", "8080:80", host.rootfs()?, "/bin/true"];
    let output = host.command(BIN, words)?.expect(125)?;
    assert!(output.stderr.contains("-p needs --network bridge"), "{output}");
    let words = args!["-p", "8080", "-p", "70000:80", host.rootfs()?, "/bin/true"];
    assert!(host.command(BIN, words)?.stderr.contains("is no port: 1 to 65535"));
    Ok(())
}
