//! Who reaches whom, and under which address.

use tests::{Host, Outcome, Test};

use super::{
    BIN, BRIDGE, Container, HOST_ADDRESS, OUTSIDE_ADDRESS, Outside, all_gone, ask, ask_from_container, ip,
    some, strings,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch05::the_world_sees_the_hosts_address", needs: BRIDGE, run: nat },
        Test { name: "ch05::published_tcp_is_reached_from_everywhere", needs: BRIDGE, run: published_tcp },
        Test { name: "ch05::published_udp_is_reached_from_everywhere", needs: BRIDGE, run: published_udp },
        Test { name: "ch05::published_on_loopback_is_the_hosts_alone", needs: BRIDGE, run: on_loopback },
        Test { name: "ch05::a_range_and_a_free_port", needs: BRIDGE, run: ranges },
        Test {
            name: "ch05::what_is_not_published_is_not_reached_from_outside",
            needs: BRIDGE,
            run: unpublished,
        },
        Test { name: "ch05::two_containers_reach_each_other", needs: BRIDGE, run: neighbours },
        Test { name: "ch05::escape_leaves_the_neighbour_open_and_nothing_else", needs: BRIDGE, run: escape },
    ]
}

fn nat(host: &Host) -> Outcome {
    let outside = Outside::make(host)?;
    for port in ["7000", "7001 udp"] {
        let server = outside.serve(host, port)?;
        let to = format!("{OUTSIDE_ADDRESS}:{port}");
        let answer = ask_from_container(host, &[], &to)?.ok_or("no answer from outside")?;
        assert_eq!(answer.1, HOST_ADDRESS, "the world outside must see the host's address");
        assert!(server.stdout().contains(HOST_ADDRESS) && !server.stdout().contains("10.88."));
    }
    all_gone(host)
}

fn published_tcp(host: &Host) -> Outcome {
    published(host, "")
}

fn published_udp(host: &Host) -> Outcome {
    published(host, " udp")
}

fn published(host: &Host, udp: &str) -> Outcome {
    let outside = Outside::make(host)?;
    let publish = format!("8080:80{}", udp.replace(' ', "/"));
    let options = ["-p", &publish, "--hostname", "server"];
    let server = Container::serve(host, &options, &format!("80{udp}"))?;
    let port = format!("8080{udp}");
    let from_outside = outside.ask(host, &format!("{HOST_ADDRESS}:{port}"))?;
    assert_eq!(from_outside, some("server", OUTSIDE_ADDRESS), "who asks from outside keeps his address");
    for own in ["127.0.0.1", HOST_ADDRESS, "10.88.0.1"] {
        let (name, _) =
            ask(host, &format!("{own}:{port}"))?.ok_or(format!("no answer on the host's {own}"))?;
        assert_eq!(name, "server");
    }
    for own in [HOST_ADDRESS, "10.88.0.1"] {
        let answer = ask_from_container(host, &[], &format!("{own}:{port}"))?;
        // The answer must come back by way of the host, which asked it in its own name.
        assert_eq!(answer, some("server", "10.88.0.1"), "from another container by {own}");
    }
    // From the server itself, by the host's address and back.
    let pid = server.inner()?.to_string();
    let probe = host.bin("probe");
    let mut words = strings(&["-t", &pid, "-n", "--", &probe.to_string_lossy(), "connect"]);
    words.extend(strings(&[&format!("{HOST_ADDRESS}:8080")]));
    words.extend(udp.split_whitespace().map(Into::into));
    assert_eq!(super::answer(&host.command("nsenter", words)?)?, some("server", "10.88.0.1"));
    server.end()?;
    assert_eq!(
        outside.ask(host, &format!("{HOST_ADDRESS}:{port}"))?,
        None,
        "the port is closed with its container"
    );
    all_gone(host)
}

fn on_loopback(host: &Host) -> Outcome {
    let outside = Outside::make(host)?;
    let server = Container::serve(host, &["-p", "127.0.0.1:8080:80", "--hostname", "server"], "80")?;
    assert_eq!(ask(host, "127.0.0.1:8080")?, some("server", "10.88.0.1"));
    assert_eq!(ask(host, &format!("{HOST_ADDRESS}:8080"))?, None);
    assert_eq!(outside.ask(host, &format!("{HOST_ADDRESS}:8080"))?, None);
    drop(server);
    all_gone(host)
}

fn ranges(host: &Host) -> Outcome {
    let server = Container::serve(host, &["-p", "9000-9002:79-81", "--hostname", "server"], "80")?;
    assert!(ask(host, "127.0.0.1:9001")?.is_some());
    assert_eq!(ask(host, "127.0.0.1:9000")?, None, "nobody listens on 79");
    drop(server);
    let many = ["-p", "10000-10499:1-500", "-p", "127.0.0.1:11000-11299:1-300/udp", "--hostname", "server"];
    let server = Container::serve(host, &many, "500")?;
    assert!(ask(host, "127.0.0.1:10499")?.is_some());
    drop(server);
    all_gone(host)
}

fn unpublished(host: &Host) -> Outcome {
    let outside = Outside::make(host)?;
    // A machine on the host's network can name the host as its router to the containers.
    outside.run(host, &["ip", "route", "add", "10.88.0.0/16", "via", HOST_ADDRESS])?;
    let server = Container::serve(host, &["-p", "8080:80", "--hostname", "server"], "81")?;
    assert!(ask(host, "10.88.0.2:81")?.is_some(), "the host itself reaches it");
    assert_eq!(outside.ask(host, "10.88.0.2:81")?, None);
    drop(server);
    all_gone(host)
}

fn neighbours(host: &Host) -> Outcome {
    for port in ["80", "80 udp"] {
        let server = Container::serve(host, &["--hostname", "server"], port)?;
        let address = ip(host, "-j link show type veth")?;
        let alias = address.split("sampan ").nth(1).and_then(|rest| rest.split(' ').next());
        let alias = alias.ok_or("no alias")?.to_owned();
        let (name, from) = ask_from_container(host, &[], &format!("{alias}:{port}"))?.ok_or("no answer")?;
        assert_eq!(name, "server");
        assert!(from.starts_with("10.88.0.") && from != "10.88.0.1" && from != alias, "asked from {from}");
        server.end()?;
        all_gone(host)?;
    }
    Ok(())
}

fn escape(host: &Host) -> Outcome {
    // Something to be found, should the host's abstract names be visible.
    use std::os::linux::net::SocketAddrExt;
    let name = std::os::unix::net::SocketAddr::from_abstract_name("host-secret")?;
    let _secret = std::os::unix::net::UnixListener::bind_addr(&name)?;
    let escape = |mode: &str| -> super::Result<tests::Output> {
        let rootfs = host.rootfs()?;
        let rootfs = rootfs.to_string_lossy();
        host.command(BIN, ["--network", mode, &rootfs, "/kit/05-escape", "host-secret"])
    };
    let output = escape("bridge")?.expect(1)?;
    let verdicts: Vec<_> = output.stdout.lines().map(|line| &line[..4]).collect();
    assert_eq!(verdicts, ["SAFE", "SAFE", "SAFE", "RISK"], "{output}");
    escape("none")?.expect(0)?;
    let output = escape("host")?.expect(1)?;
    assert!(
        output.stdout.starts_with("RISK: the host's abstract sockets: connected to @host-secret"),
        "{output}"
    );
    all_gone(host)
}
