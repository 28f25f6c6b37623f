//! Links and the nftables table of containers that are gone.

use std::fs;
use std::path::Path;

use super::owner::{Owner, is_ours};
use super::places::names;
use super::{Kind, Leak, Roots};
use crate::netlink::{self, Link};

/// The table's name.
pub(crate) const TABLE: &str = "sampan";
const BRIDGE: &str = "sampan0";

/// A kernel that does not answer has nothing of ours.
pub(crate) fn find(roots: &Roots) -> Vec<Leak> {
    let links = netlink::links().unwrap_or_default();
    let tables = netlink::tables().unwrap_or_default();
    judge(&links, &tables, |owner| owner.lives(roots), || is_maker_here(&roots.proc))
}

/// A link with a living owner is in use, and with it the bridge and the table. What names no owner, because it is just being
/// made or on its way out, is in use while a program that makes links runs in this network namespace.
fn judge(
    links: &[Link],
    tables: &[String],
    lives: impl Fn(&Owner) -> bool,
    maker: impl Fn() -> bool,
) -> Vec<Leak> {
    let ours: Vec<(&Link, Owner)> =
        links.iter().filter(|link| is_our_name(link)).map(|link| (link, owner_of(link))).collect();
    let table = tables.iter().any(|table| table == TABLE);
    if ours.is_empty() && !table {
        return Vec::new();
    }
    let in_use = ours.iter().any(|(_, owner)| lives(owner)) || maker();
    let mut leaks: Vec<Leak> = ours
        .iter()
        .filter(|(_, owner)| if *owner == Owner::Unknown { !in_use } else { !lives(owner) })
        .map(|(link, owner)| Leak { kind: Kind::Link, name: link.name.clone(), why: owner.gone() })
        .collect();
    // The bridge last: its ports leave it by themselves.
    leaks.sort_by_key(|leak| leak.name == BRIDGE);
    if table && !in_use {
        leaks.push(Leak {
            kind: Kind::Table,
            name: format!("ip {TABLE}"),
            why: "no link of ours is in use".to_owned(),
        });
    }
    leaks
}

/// `sampan0`, or `sampan` and eight hexadecimal digits; and no alias that somebody else gave it.
pub(crate) fn is_our_name(link: &Link) -> bool {
    let digits = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (link.name == BRIDGE || link.name.strip_prefix("sampan").is_some_and(digits))
        && (link.alias.is_empty() || link.alias.starts_with("sampan "))
}

/// `sampan 10.88.0.2 4711`.
fn owner_of(link: &Link) -> Owner {
    link.alias.split(' ').nth(2).map_or(Owner::Unknown, Owner::parse)
}

fn is_maker_here(proc: &Path) -> bool {
    let here = fs::read_link(proc.join("self/ns/net")).ok();
    let kit = std::process::id().to_string();
    names(proc).filter(|name| *name != kit).any(|name| {
        let network = || fs::read_link(proc.join(&name).join("ns/net")).ok();
        let exe = fs::read_to_string(proc.join(&name).join("comm")).unwrap_or_default();
        let maker = ["05-network", "sampan", "sampan-runtime"].contains(&exe.trim());
        maker && name.parse().is_ok_and(|pid| is_ours(proc, pid)) && here.is_some() && network() == here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, alias: &str) -> Link {
        Link { index: 1, name: name.into(), alias: alias.into() }
    }

    fn leaked(links: &[Link], tables: &[&str], maker: bool) -> Vec<String> {
        let tables: Vec<String> = tables.iter().map(|&table| table.to_owned()).collect();
        let lives = |owner: &Owner| *owner == Owner::Process(7);
        judge(links, &tables, lives, || maker).into_iter().map(|leak| leak.name).collect()
    }

    #[test]
    fn the_bridge_and_the_table_are_in_use_with_the_last_link() {
        let bridge = link("sampan0", "sampan 10.88.0.0/16");
        let dead = link("sampan0123abcd", "sampan 10.88.0.2 8");
        let alive = link("sampan89abcdef", "sampan 10.88.0.3 7");
        let all = [bridge.clone(), dead.clone(), alive];
        assert_eq!(leaked(&all, &["sampan"], false), ["sampan0123abcd"]);
        assert_eq!(
            leaked(&all[..2], &["sampan", "filter"], false),
            ["sampan0123abcd", "sampan0", "ip sampan"]
        );
        assert_eq!(leaked(&[bridge, dead], &["sampan"], true), ["sampan0123abcd"]);
    }

    #[test]
    fn what_has_another_name_or_alias_is_somebody_elses() {
        let others = [
            link("lo", ""),
            link("sampan1", ""),
            link("sampan-veth", ""),
            link("sampan0123abcg", ""),
            link("sampan0", "of the office"),
        ];
        assert_eq!(leaked(&others, &["filter"], false), Vec::<String>::new());
    }
}
