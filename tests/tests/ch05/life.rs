//! How a network begins and ends: alone, many at once, killed, and where something is in the way.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};

use nix::sys::signal::Signal;
use tests::{Child, Host, Need, Outcome, Test, args, wait_until};

use super::{BIN, BRIDGE, Container, SOON, all_gone, ask, ip, links};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch05::a_container_has_an_address_and_a_gateway", needs: BRIDGE, run: inside },
        Test { name: "ch05::the_bridge_stays_until_the_last_container", needs: BRIDGE, run: last },
        Test { name: "ch05::twenty_at_once_have_twenty_addresses", needs: BRIDGE, run: twenty },
        Test { name: "ch05::a_killed_one_is_cleaned_up_or_overwritten", needs: BRIDGE, run: killed },
        Test { name: "ch05::a_port_in_use_is_found_first", needs: BRIDGE, run: port_in_use },
        Test { name: "ch05::a_port_of_another_container_is_found", needs: BRIDGE, run: port_of_another },
        Test { name: "ch05::a_range_in_use_is_found_first", needs: BRIDGE, run: range_in_use },
        Test { name: "ch05::a_foreign_link_is_not_taken", needs: BRIDGE, run: foreign_link },
        Test { name: "ch05::no_program_is_called", needs: BRIDGE, run: no_program },
        Test { name: "ch05::the_shared_rootfs_is_not_written", needs: BRIDGE, run: files },
        Test { name: "ch05::layers_are_not_written", needs: BRIDGE, run: layers },
        Test {
            name: "ch05::user_layers_are_not_written",
            needs: &[Need::UserNamespaces, Need::OverlayUser, Need::Rootfs],
            run: user_layers,
        },
        Test {
            name: "ch05::nothing_is_changed_for_a_rootfs_that_is_not_there",
            needs: BRIDGE,
            run: no_rootfs,
        },
        Test { name: "ch05::forwarding_is_told_once", needs: BRIDGE, run: forwarding },
        Test {
            name: "ch05::without_nftables_rules_the_network_is_repaired",
            needs: &[
                Need::Root,
                Need::Rootfs,
                Need::Bridge,
                Need::Nftables,
                Need::Program("ip"),
                Need::Program("nft"),
            ],
            run: repaired,
        },
    ]
}

fn run(host: &Host, options: &[&str], command: &[&str]) -> super::Result<tests::Output> {
    let rootfs = host.rootfs()?;
    let rootfs = rootfs.to_string_lossy();
    host.command(BIN, [options, &[&*rootfs], command].concat())
}

fn inside(host: &Host) -> Outcome {
    let seen = run(host, &[], &["/kit/probe"])?.success()?.json()?;
    let text = seen.to_string();
    for part in ["10.88.0.2/16", "10.88.0.1", "127.0.0.1/8", "eth0"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("sampan0"), "the bridge is the host's");
    all_gone(host)
}

fn last(host: &Host) -> Outcome {
    let first = Container::serve(host, &["-p", "8081:80"], "80")?;
    let second = Container::serve(host, &["-p", "8082:80"], "80")?;
    assert!(links().contains(&"sampan0".to_owned()));
    first.end()?;
    assert!(links().contains(&"sampan0".to_owned()), "the second still needs it");
    assert!(ask(host, "127.0.0.1:8081")?.is_none());
    assert!(ask(host, "127.0.0.1:8082")?.is_some());
    second.end()?;
    all_gone(host)
}

fn twenty(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let start = |number: usize| {
        let port = format!("{}:80", 8100 + number);
        host.spawn(BIN, args!["-p", port, &rootfs, "/kit/probe", "listen", "80"])
    };
    let mut all: Vec<Container> =
        (0..20).map(|number| start(number).map(Container)).collect::<super::Result<_>>()?;
    for container in &mut all {
        container.wait_for("listening")?;
    }
    let links = ip(host, "-o link show master sampan0")?;
    let addresses: BTreeSet<_> =
        links.lines().filter_map(|line| line.split("alias sampan ").nth(1)?.split(' ').next()).collect();
    assert_eq!(addresses.len(), 20, "{links}");
    for number in 0..20 {
        assert!(ask(host, &format!("127.0.0.1:{}", 8100 + number))?.is_some(), "container {number}");
    }
    // All ended at once, so that each may be the last.
    for container in &all {
        container.signal(Signal::SIGTERM)?;
    }
    drop(all);
    all_gone(host)
}

fn killed(host: &Host) -> Outcome {
    let container = Container::serve(host, &["-p", "8080:80"], "80")?;
    let inner = container.inner()?;
    container.signal(Signal::SIGKILL)?;
    drop(container);
    wait_until("the container dies with its maker", SOON, || {
        !fs::exists(format!("/proc/{inner}")).unwrap_or(true)
    })?;
    wait_until("its cable goes with its namespace", SOON, || {
        !links().iter().any(|name| name.starts_with("sampan0a"))
    })?;
    // What is left is no obstacle: the same port, the same address.
    let next = Container::serve(host, &["-p", "8080:80"], "80")?;
    assert!(ask(host, "127.0.0.1:8080")?.is_some());
    next.end()?;
    all_gone(host)?;
    if host.bin("kit").is_file() {
        let container: Child = host.spawn(BIN, args![host.rootfs()?, "/bin/sleep", "100"])?;
        wait_until("the bridge is there", SOON, || links().len() > 2)?;
        container.signal(Signal::SIGKILL)?;
        drop(container);
        wait_until("its cable goes", SOON, || !links().iter().any(|name| name.starts_with("sampan0a")))?;
        host.command("kit", ["clean"])?.success()?;
        assert!(!links().iter().any(|name| name.starts_with("sampan")), "{:?}", links());
        // It may have been killed while it held the lock. The lock is nobody's then, and the next takes it along.
        run(host, &[], &["/bin/true"])?.success()?;
        all_gone(host)?;
    }
    Ok(())
}

fn port_in_use(host: &Host) -> Outcome {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    for (port, kind) in [(tcp.local_addr()?.port(), "tcp"), (udp.local_addr()?.port(), "udp")] {
        let output = run(host, &["-p", &format!("{port}:80/{kind}")], &["/bin/true"])?.expect(125)?;
        let expected = format!("port {port}/{kind} is in use on this host by a program of the host");
        assert!(output.stderr.contains(&expected), "{output}");
        assert_eq!(links(), ["lo"], "nothing was made");
    }
    let output = run(host, &["-p", "203.0.113.9:80:80"], &["/bin/true"])?.expect(125)?;
    assert!(output.stderr.contains("no address 203.0.113.9 on this host"), "{output}");
    all_gone(host)
}

fn port_of_another(host: &Host) -> Outcome {
    let first = Container::serve(host, &["-p", "8080:80"], "80")?;
    let output = run(host, &["-p", "8080:81"], &["/bin/true"])?.expect(125)?;
    assert!(output.stderr.contains("port 8080/tcp is in use on this host by another container"), "{output}");
    assert!(ask(host, "127.0.0.1:8080")?.is_some(), "the first keeps it");
    first.end()?;
    all_gone(host)
}

fn range_in_use(host: &Host) -> Outcome {
    ip(host, "link add other type bridge")?;
    ip(host, "link set other up")?;
    ip(host, "address add 192.0.2.1/24 dev other")?;
    ip(host, "route add 10.0.0.0/8 dev other")?;
    let before = links();
    let output = run(host, &[], &["/bin/true"])?.expect(125)?;
    let expected = "the address range 10.88.0.0/16 is in use on this host: route 10.0.0.0/8";
    assert!(output.stderr.contains(expected), "{output}");
    let output = run(host, &["--subnet", "192.0.2.0/25"], &["/bin/true"])?.expect(125)?;
    assert!(output.stderr.contains("is in use on this host: address 192.0.2.1/24"), "{output}");
    assert_eq!(links(), before, "nothing was made");
    // Another range is the way out.
    let output = run(host, &["--subnet", "172.31.0.0/24"], &["/bin/ip", "address"])?.success()?;
    assert!(output.stdout.contains("172.31.0.2/24"), "{output}");
    all_gone(host)
}

fn foreign_link(host: &Host) -> Outcome {
    ip(host, "link add sampan0 type bridge")?;
    ip(host, "link set sampan0 up")?;
    let output = run(host, &[], &["/bin/true"])?.expect(125)?;
    assert!(output.stderr.contains("sampan0 is there already"), "{output}");
    ip(host, "link delete sampan0")?;
    all_gone(host)
}

fn no_program(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    let output = host
        .cmd(BIN, args!["--explain", "-p", "8080:80", rootfs, "/bin/true"])
        .env("PATH", "/nowhere")
        .run()?
        .success()?;
    for call in
        ["RTM_NEWLINK sampan0 ", "NFT_MSG_NEWSETELEM", "RTM_NEWROUTE default via 10.88.0.1", "RTM_DELLINK"]
    {
        assert!(output.stderr.contains(call), "{call} is missing in {output}");
    }
    all_gone(host)
}

fn files(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::write(rootfs.join("etc/resolv.conf"), "shared\n")?;
    fs::write(rootfs.join("etc/hosts"), "shared\n")?;
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.53\nnameserver 192.0.2.53\n")?;
    let script = "cat /etc/resolv.conf /etc/hosts; echo more >> /etc/hosts";
    let output = run(host, &["--hostname", "box"], &["/bin/sh", "-c", script])?.success()?;
    assert!(output.stdout.starts_with("nameserver 192.0.2.53\n"), "{output}");
    assert!(output.stdout.contains("10.88.0.2\tbox"), "{output}");
    for file in ["etc/resolv.conf", "etc/hosts"] {
        assert_eq!(fs::read_to_string(rootfs.join(file))?, "shared\n");
    }
    all_gone(host)
}

fn user_layers(host: &Host) -> Outcome {
    let host = &host.as_user();
    let layer = host.new_dir()?;
    fs::write(layer.join("from-layer"), "layer\n")?;
    let script = "cat /from-layer && echo new > /written && cat /written";
    let words =
        args!["--network", "none", "--layer", &layer, host.rootfs()?, "/bin/sh", "-c", script].to_vec();
    assert_eq!(host.command(BIN, words)?.success()?.stdout, "layer\nnew\n");
    assert!(!host.rootfs()?.join("written").exists() && fs::read_dir(&layer)?.count() == 1);
    Ok(())
}

fn no_rootfs(host: &Host) -> Outcome {
    let forward = "/proc/sys/net/ipv4/ip_forward";
    fs::write(forward, "0")?;
    let output = host.command(BIN, args!["/nowhere", "/bin/true"])?.expect(125)?;
    assert!(output.stderr.starts_with("error: no directory \"/nowhere\""), "{output}");
    assert_eq!(fs::read_to_string(forward)?.trim(), "0");
    Ok(())
}

fn layers(host: &Host) -> Outcome {
    let layer = host.new_dir()?;
    fs::write(layer.join("from-layer"), "layer\n")?;
    let layer = layer.to_string_lossy();
    let script = "cat /from-layer && echo new > /written && cat /written";
    let output = run(host, &["--layer", &layer], &["/bin/sh", "-c", script])?.success()?;
    assert_eq!(output.stdout, "layer\nnew\n");
    // Root over layers is nobody outside, as root over a folder is.
    let output = run(host, &["--layer", &layer], &["/bin/cat", "/proc/self/uid_map"])?.success()?;
    assert_ne!(output.stdout.split_whitespace().nth(1), Some("0"), "{output}");
    assert!(!host.rootfs()?.join("written").exists() && fs::read_dir(&*layer)?.count() == 1);
    all_gone(host)
}

fn forwarding(host: &Host) -> Outcome {
    let path = "/proc/sys/net/ipv4/ip_forward";
    fs::write(path, "0")?;
    let first = run(host, &[], &["/bin/true"])?.success()?;
    assert_eq!(first.stderr.lines().filter(|line| line.contains("ip_forward was 0")).count(), 1, "{first}");
    assert_eq!(fs::read_to_string(path)?.trim(), "1");
    let second = run(host, &[], &["/bin/true"])?.success()?;
    assert_eq!(second.stderr, "");
    all_gone(host)
}

fn repaired(host: &Host) -> Outcome {
    let first = Container::serve(host, &[], "80")?;
    // As a restarted firewall does.
    host.command("nft", ["flush", "ruleset"])?.success()?;
    let second = Container::serve(host, &["-p", "8080:80"], "80")?;
    assert!(ask(host, "127.0.0.1:8080")?.is_some());
    drop((first, second));
    all_gone(host)
}
