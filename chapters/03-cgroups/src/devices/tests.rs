//! Rules for devices, reduced to what version 1 can hold.

use super::*;

/// `+c 1:3 rwm`: allow; `-a`: deny all.
pub(crate) fn rules(list: &[&str]) -> Vec<DeviceRule> {
    list.iter().map(|text| rule(text)).collect()
}

fn rule(text: &str) -> DeviceRule {
    let (allow, rest) = (text.starts_with('+'), &text[1..]);
    let mut words = rest.split(' ');
    let kind = match words.next().unwrap() {
        "c" => Some(DeviceKind::Char),
        "b" => Some(DeviceKind::Block),
        _ => None,
    };
    let (major, minor) = words.next().and_then(|it| it.split_once(':')).unwrap_or(("*", "*"));
    let access = words.next().map_or(Access::ALL, |it| Access::parse(it).unwrap());
    DeviceRule { allow, kind, major: major.parse().ok(), minor: minor.parse().ok(), access }
}

fn writes(now: &str, list: &[&str]) -> Vec<String> {
    let wanted = reduce(&rules(list)).unwrap();
    wanted.writes(&Policy::parse(now)).iter().map(|(file, value)| format!("{} {value}", &file[8..])).collect()
}

#[test]
fn a_new_cgroup_is_closed_and_then_opened_for_what_is_listed() {
    let list = ["-a", "+c 1:3 rwm", "+c *:* m", "+b 8:0 r"];
    assert_eq!(writes("a *:* rwm\n", &list), ["deny a", "allow c 1:3 rwm", "allow c *:* m", "allow b 8:0 r"]);
    assert_eq!(writes("a *:* rwm\n", &[]), ["deny a"], "no rule at all denies all");
    assert!(writes("a *:* rwm\n", &["-a", "+a"]).is_empty(), "all is allowed already");
}

#[test]
fn an_update_writes_the_difference_and_what_is_new_first() {
    let now = "c 1:3 rwm\nc 1:5 rw\n";
    assert_eq!(
        writes(now, &["-a", "+c 1:5 rwm", "+b 8:0 r"]),
        ["allow c 1:5 m", "allow b 8:0 r", "deny c 1:3 rwm"]
    );
    assert!(writes(now, &["+c 1:3 rwm", "+c 1:5 rw"]).is_empty());
}

#[test]
fn the_last_rule_that_fits_decides() {
    let reduced = |list: &[&str]| -> Vec<String> {
        reduce(&rules(list)).unwrap().exceptions.iter().map(ToString::to_string).collect()
    };
    assert_eq!(reduced(&["+c 1:3 rwm", "-c 1:3 w"]), ["c 1:3 rm"]);
    assert!(
        reduced(&["+c 1:3 rwm", "+c 1:5 r", "-c 1:* rwm"]).is_empty(),
        "a rule for all takes single ones away"
    );
    assert!(reduced(&["+c 1:3 rwm", "-a"]).is_empty());
    assert_eq!(reduced(&["+a *:* m"]), ["b *:* m", "c *:* m"], "only making one is not everything");
    let policy = reduce(&rules(&["+a", "-b 8:0 rwm"])).unwrap();
    assert!(policy.allow && policy.exceptions.len() == 1);
}

#[test]
fn a_hole_in_a_rule_for_all_is_refused() {
    for list in
        [&["+c *:* rwm", "-c 5:1 rwm"][..], &["+c 5:* r", "-c *:1 r"], &["+a", "-c 5:* rw", "+c 5:1 w"]]
    {
        let error = check(&rules(list)).unwrap_err().to_string();
        assert!(error.starts_with("device rule c "), "{error}");
    }
    check(&rules(&["+c *:* m", "-c 5:1 rw"])).unwrap();
}

#[test]
fn access_is_read_as_letters() {
    assert_eq!(Access::parse("rw").unwrap().to_string(), "rw");
    assert_eq!(Access::parse("mwr"), Some(Access::ALL));
    assert_eq!(Access::parse("rx"), None);
}
