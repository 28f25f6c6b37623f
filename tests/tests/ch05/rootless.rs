//! An ordinary user's network.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::signal::Signal;
use tests::{Host, Need, Outcome, Test, args, wait_until};

use super::{BIN, Container, HOST_ADDRESS, OUTSIDE_ADDRESS, Outside, SOON, answer, links};

const PASTA: &[Need] = &[
    Need::Root,
    Need::UserNamespaces,
    Need::Rootfs,
    Need::Tun0666,
    Need::Program("pasta"),
    Need::Program("ip"),
];
const SLIRP: &[Need] = &[
    Need::Root,
    Need::UserNamespaces,
    Need::Rootfs,
    Need::Tun0666,
    Need::Program("slirp4netns"),
    Need::Program("ip"),
];
const USER: &[Need] = &[Need::UserNamespaces, Need::Rootfs];

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "ch05::user_pasta_reaches_out_and_is_reached",
            needs: PASTA,
            run: |host| helped(host, "pasta"),
        },
        Test {
            name: "ch05::user_slirp4netns_reaches_out_and_is_reached",
            needs: SLIRP,
            run: |host| helped(host, "slirp4netns"),
        },
        Test {
            name: "ch05::user_pasta_goes_with_a_killed_maker",
            needs: PASTA,
            run: |host| killed(host, "pasta"),
        },
        Test {
            name: "ch05::user_slirp4netns_goes_with_a_killed_maker",
            needs: SLIRP,
            run: |host| killed(host, "slirp4netns"),
        },
        Test { name: "ch05::user_without_a_helper_is_told", needs: USER, run: without },
        Test { name: "ch05::user_without_tun_is_told", needs: PASTA, run: without_tun },
    ]
}

/// A folder with this program alone in it, so that no other is found.
fn path_with(host: &Host, program: Option<&str>) -> super::Result<String> {
    let folder = host.new_dir()?;
    for name in program.iter().copied().chain(["newuidmap", "newgidmap"]) {
        for place in ["/usr/bin", "/bin", "/usr/local/bin"] {
            let from = format!("{place}/{name}");
            if fs::exists(&from)? && !fs::exists(folder.join(name))? {
                symlink(from, folder.join(name))?;
            }
        }
    }
    Ok(folder.to_string_lossy().into_owned())
}

fn helped(host: &Host, program: &str) -> Outcome {
    let outside = Outside::make(host)?;
    let user = host.as_user();
    let path = path_with(&user, Some(program))?;
    let rootfs = user.rootfs()?;
    let server = outside.serve(host, "7000")?;
    // Something on the host's own 127.0.0.1 that must stay out of reach.
    let mut secret = host.spawn("probe", ["listen", "6000"])?;
    secret.wait_for("listening")?;

    let out = format!("{OUTSIDE_ADDRESS}:7000");
    let said = user.cmd(BIN, args![&rootfs, "/kit/probe", "connect", out]).env("PATH", &path).run()?;
    let (_, from) = answer(&said)?.ok_or("no answer from outside")?;
    assert_eq!(from, HOST_ADDRESS);
    assert!(server.stdout().contains(HOST_ADDRESS));

    for (number, protocol) in ["", " udp"].into_iter().enumerate() {
        let publish = format!("{}:80{}", 8080 + number, protocol.replace(' ', "/"));
        let mut words =
            args!["-p", publish, "--hostname", "server", &rootfs, "/kit/probe", "listen", "80"].to_vec();
        words.extend(protocol.split_whitespace().map(Into::into));
        let mut container = Container(user.cmd(BIN, words).env("PATH", &path).spawn()?);
        container.wait_for("listening")?;
        let port = format!("{}{protocol}", 8080 + number);
        // pasta can lose what a server says just before it hangs up, so it is the server that is asked who came.
        let came = |container: &Container| container.stdout().matches("\"peer\"").count();
        outside.knock(host, &format!("{HOST_ADDRESS}:{port}"))?;
        wait_until("who asks from outside is led inside", SOON, || came(&container) > 0)?;
        let before = came(&container);
        // slirp4netns, told to keep the host's loopback out of reach, also answers no datagram from there.
        if program == "pasta" || protocol.is_empty() {
            let mut words = args!["connect", format!("127.0.0.1:{}", 8080 + number)].to_vec();
            words.extend(protocol.split_whitespace().map(Into::into));
            host.command("probe", words)?;
            wait_until("who asks on the host is led inside", SOON, || came(&container) > before)?;
        }
        container.end()?;
        let closed = outside.knock(host, &format!("{HOST_ADDRESS}:{port}"))?;
        assert_eq!(closed.json()?["connected"], false);
    }

    for hidden in ["127.0.0.1:6000", "10.0.2.2:6000", "198.51.100.2:6000"] {
        let said = user.cmd(BIN, args![&rootfs, "/kit/probe", "connect", hidden]).env("PATH", &path).run()?;
        assert_eq!(answer(&said)?, None, "the host's own loopback by {hidden}");
    }
    wait_until("the helpers are gone", SOON, || !runs(program))?;
    assert!(!links().iter().any(|name| name.starts_with("sampan")));
    Ok(())
}

fn killed(host: &Host, program: &str) -> Outcome {
    let _outside = Outside::make(host)?;
    let user = host.as_user();
    let path = path_with(&user, Some(program))?;
    let words = args![user.rootfs()?, "/bin/sh", "-c", "echo here-we-are; sleep 1000"];
    let mut container = Container(user.cmd(BIN, words).env("PATH", &path).spawn()?);
    container.wait_for("here-we-are")?;
    assert!(runs(program));
    container.signal(Signal::SIGKILL)?;
    wait_until("the helper goes with its maker", SOON, || !runs(program))?;
    drop(container);
    if host.bin("kit").is_file() {
        host.command("kit", ["clean"])?.success()?;
    }
    Ok(())
}

/// Whether a helper of that name runs in this test's network namespace. pasta is known to the kernel as passt.
fn runs(program: &str) -> bool {
    let program = if program == "pasta" { "pas" } else { program };
    let ours = tests::ns_inode(std::process::id().cast_signed(), "net").unwrap_or_default();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| tests::ns_inode(*pid, "net").is_ok_and(|inode| inode == ours)).any(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim().starts_with(program))
    })
}

fn without(host: &Host) -> Outcome {
    let user = host.as_user();
    let path = path_with(&user, None)?;
    let rootfs = user.rootfs()?;
    let words = args![&rootfs, "/bin/sh", "-c", "ip address; ping -c1 127.0.0.1"];
    let output = user.cmd(BIN, words).env("PATH", &path).run()?.success()?;
    assert_eq!(
        output.stderr.lines().filter(|line| line.contains("no network but loopback")).count(),
        1,
        "{output}"
    );
    assert!(!output.stdout.contains("eth0"), "{output}");
    let output =
        user.cmd(BIN, args!["-p", "8080:80", &rootfs, "/bin/true"]).env("PATH", &path).run()?.expect(125)?;
    assert!(output.stderr.contains("-p needs a helper"), "{output}");
    Ok(())
}

fn without_tun(host: &Host) -> Outcome {
    fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(0o600))?;
    let user = host.as_user();
    let words = args![user.rootfs()?, "/bin/true"];
    let output = user.cmd(BIN, words).run()?.success()?;
    assert!(output.stderr.contains("/dev/net/tun") && output.stderr.contains("chmod 666"), "{output}");
    Ok(())
}
