//! A container that is isolated in everything; and, row by row, that a lie of one side turns the cell.

use super::*;

const KINDS: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

fn namespaces(first: u64) -> BTreeMap<String, u64> {
    KINDS.iter().zip(first..).map(|(kind, inode)| ((*kind).to_owned(), inode)).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, last)
}

const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn isolated() -> (Inside, Outside, Host) {
    let seen = Seen {
        pid: 2,
        pids: vec![1, 2],
        hostname: "sampan".into(),
        root: Some("9:2".into()),
        uid_map: Some(vec![[0, 100_000, 65536]]),
        namespaces: Some(namespaces(200)),
        mounts: Some(vec![Mount { id: 70 }, Mount { id: 71 }]),
        capabilities: [("bounding", set(&["CAP_CHOWN", "CAP_KILL"])), ("effective", set(&["CAP_CHOWN"]))]
            .map(|(name, names)| (name.to_owned(), names))
            .into(),
        seccomp: Some(Seccomp { mode: 2 }),
        cgroups: Some(vec![Cgroup { path: "/".into() }]),
        interfaces: vec![
            Interface { loopback: true, addresses: vec!["127.0.0.1/8".into()] },
            Interface { loopback: false, addresses: vec!["10.88.0.2/16".into(), "fe80::1/64".into()] },
        ],
    };
    let inside = Inside {
        seen,
        allocation: Some("killed".into()),
        spawned: Some((30, true)),
        cores: Some(0.5),
        write: Some(1.0),
        changed: true,
        call_refused: true,
        answer: Some("world 192.0.2.1:40000".into()),
        listening: true,
    };
    let outside = Outside {
        pid: 4711,
        inner_pid: 2,
        root: "9:2".into(),
        uid_map: vec![[0, 100_000, 65536]],
        namespaces: namespaces(200),
        mounts: [70, 71].into(),
        bounding: 0b10_0001,
        effective: 1,
        seccomp: 2,
        cgroups: vec!["/sampan/x".into()],
        addresses: [address(2)].into(),
        memory: Some((MEMORY, 1)),
        pids: Some((PIDS, 3)),
        cpus: Some((CPUS, 7)),
        write_rate: Some(WRITE_RATE),
        change_seen: true,
        original_changed: false,
        asked_from: Some(WORLD),
        published: Some("sampan 192.0.2.2:999".into()),
    };
    let host = Host {
        root: "8:2".into(),
        hostname: "host".into(),
        namespaces: namespaces(100),
        mounts: [22, 23].into(),
        addresses: [address(1), WORLD].into(),
    };
    (inside, outside, host)
}

fn judge(row: &str, inside: &Inside, outside: &Outside, host: &Host) -> Cell {
    let (_, judge) = ROWS.iter().find(|(name, _)| *name == row).expect("a row of that name");
    judge(inside, outside, host)
}

/// The host's own process, seen by itself: nothing is isolated.
#[test]
fn nothing_is_green_on_the_host_itself() {
    let (mut inside, mut outside, host) = isolated();
    outside.namespaces = host.namespaces.clone();
    inside.seen.namespaces = Some(host.namespaces.clone());
    inside.seen.root = Some(host.root.clone());
    outside.root = host.root.clone();
    inside.seen.interfaces[1].addresses = vec!["192.0.2.1/24".into()];
    outside.addresses = [WORLD].into();
    let report = Inside { seen: inside.seen.clone(), ..Inside::default() };
    let outside = Outside {
        bounding: u64::MAX,
        memory: None,
        pids: None,
        cpus: None,
        write_rate: None,
        seccomp: 0,
        original_changed: true,
        ..outside
    };
    for (row, judge) in ROWS {
        assert!(!judge(&report, &outside, &host).is_green(), "{row}");
    }
}

#[test]
fn everything_is_green_where_both_sides_agree() {
    let (inside, outside, host) = isolated();
    for (row, judge) in ROWS {
        let cell = judge(&inside, &outside, &host);
        assert!(cell.is_green(), "{row}: {cell:?}");
    }
}

type Lie = fn(&mut Inside, &mut Outside, &Host);

fn shared(kind: &str, inside: bool, outside: bool) -> impl Fn(&mut Inside, &mut Outside, &Host) {
    move |i, o, host| {
        if inside {
            i.seen.namespaces.get_or_insert_default().insert(kind.to_owned(), host.namespaces[kind]);
        }
        if outside {
            o.namespaces.insert(kind.to_owned(), host.namespaces[kind]);
        }
    }
}

#[test]
fn a_namespace_is_green_only_where_both_name_the_same_inode_and_it_is_not_the_hosts() {
    let rows = [
        ("processes", "pid"),
        ("mounts", "mount"),
        ("host name", "uts"),
        ("IPC", "ipc"),
        ("network", "network"),
        ("users", "user"),
        ("cgroup view", "cgroup"),
        ("time", "time"),
    ];
    for (row, kind) in rows {
        for (inside, outside) in [(true, false), (false, true), (true, true)] {
            let (mut i, mut o, host) = isolated();
            shared(kind, inside, outside)(&mut i, &mut o, &host);
            assert!(!judge(row, &i, &o, &host).is_green(), "{row} {inside} {outside}");
        }
        let (mut i, o, host) = isolated();
        i.seen.namespaces.get_or_insert_default().insert(kind.to_owned(), 999);
        assert!(!judge(row, &i, &o, &host).is_green(), "{row}: a third inode");
        i.seen.namespaces = None;
        assert!(!judge(row, &i, &o, &host).is_green(), "{row}: nothing seen");
    }
}

#[test]
fn a_lie_on_either_side_is_not_green() {
    let lies: [(&str, Lie); 43] = [
        ("root directory", |i, _, host| i.seen.root = Some(host.root.clone())),
        ("root directory", |_, o, host| o.root = host.root.clone()),
        ("root directory", |i, _, _| i.seen.root = Some("1:1".into())),
        ("root directory", |i, _, _| i.seen.root = None),
        ("processes", |i, _, _| i.seen.pids = vec![1]),
        ("processes", |_, o, _| o.inner_pid = 3),
        ("processes", |i, o, _| (i.seen.pid, i.seen.pids, o.inner_pid) = (4711, vec![4711], 4711)),
        ("mounts", |i, _, _| i.seen.mounts.iter_mut().flatten().for_each(|mount| mount.id -= 48)),
        ("mounts", |_, o, _| o.mounts = [22].into()),
        ("mounts", |i, _, _| i.seen.mounts = None),
        ("host name", |i, _, host| i.seen.hostname = host.hostname.clone()),
        ("network", |i, _, _| i.seen.interfaces[1].addresses.push("192.0.2.1/24".into())),
        ("network", |_, o, _| assert!(o.addresses.insert(WORLD))),
        ("users", |i, _, _| i.seen.uid_map = Some(vec![[0, 0, 1]])),
        ("users", |_, o, _| o.uid_map = vec![[0, 0, u32::MAX]]),
        ("cgroup view", |i, _, _| i.seen.cgroups = Some(vec![Cgroup { path: "/sampan/x".into() }])),
        ("cgroup view", |_, o, _| o.cgroups = vec!["/".into()]),
        ("memory limit", |i, _, _| i.allocation = Some("allocated".into())),
        ("memory limit", |_, o, _| o.memory = Some((u64::MAX, 1))),
        ("memory limit", |_, o, _| o.memory = Some((MEMORY, 0))),
        ("cpu limit", |i, _, _| i.cores = Some(1.0)),
        ("cpu limit", |_, o, _| o.cpus = Some((2.0, 7))),
        ("cpu limit", |_, o, _| o.cpus = Some((CPUS, 0))),
        ("pids limit", |i, _, _| i.spawned = Some((SPAWNED, false))),
        ("pids limit", |_, o, _| o.pids = None),
        ("pids limit", |_, o, _| o.pids = Some((PIDS, 0))),
        ("io limit", |i, _, _| i.write = Some(0.01)),
        ("io limit", |_, o, _| o.write_rate = None),
        ("copy-on-write", |i, _, _| i.changed = false),
        ("copy-on-write", |_, o, _| o.change_seen = false),
        ("copy-on-write", |_, o, _| o.original_changed = true),
        ("own address", |i, _, _| i.seen.interfaces.truncate(1)),
        ("own address", |_, o, _| o.addresses.clear()),
        ("NAT", |i, _, _| i.answer = None),
        ("NAT", |i, _, _| i.answer = Some("world 10.88.0.2:40000".into())),
        ("NAT", |_, o, _| o.asked_from = Some(address(2))),
        ("published port", |i, _, _| i.listening = false),
        ("published port", |_, o, _| o.published = Some("other 192.0.2.2:1".into())),
        ("capabilities", |i, _, _| {
            drop(i.seen.capabilities.insert("effective".into(), set(&["CAP_SYS_ADMIN"])));
        }),
        ("capabilities", |_, o, _| o.bounding = u64::MAX),
        ("system calls", |i, _, _| i.call_refused = false),
        ("system calls", |_, o, _| o.seccomp = 0),
        ("system calls", |i, _, _| i.seen.seccomp = None),
    ];
    for (number, (row, lie)) in lies.into_iter().enumerate() {
        let (mut inside, mut outside, host) = isolated();
        lie(&mut inside, &mut outside, &host);
        assert!(!judge(row, &inside, &outside, &host).is_green(), "lie {number}: {row}");
    }
    let lied_about: BTreeSet<&str> = lies.iter().map(|(row, _)| *row).chain(["IPC", "time"]).collect();
    assert_eq!(lied_about.len(), ROWS.len(), "each row is lied about");
}
