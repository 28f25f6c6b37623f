//! Which registries may be spoken to without encryption, and which others stand in for one.
//!
//! ```toml
//! insecure-registries = ["192.168.245.4:5000", "10.0.0.0/8"]
//! registry-mirrors = ["https://mirror.example"]              # of docker.io
//! [mirrors]
//! "quay.io" = ["http://cache.example:5000"]                   # of others
//! ```
//!
//! In the same file, before the first table: `unpack-ratio = 2000`, how many times its size a layer may unpack to (200).
//!
//! The machine's file is `/etc/sampan/config.toml`, the user's `$XDG_CONFIG_HOME/sampan/config.toml`; what both say is added up. The
//! names of the first two are those of Docker's `daemon.json`. Loopback addresses need no entry, as with Docker.
//! A key that nobody reads is a warning. A proxy is taken from the environment, as with Docker: `HTTPS_PROXY`, `NO_PROXY`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;

/// The machine's folder of settings.
const MACHINE: &str = "/etc/sampan";

/// What the files say of registries.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    insecure: Vec<String>,
    mirrors: BTreeMap<String, Vec<String>>,
    unpack_ratio: Option<u64>,
    /// The folders in which certificates are looked for, by `HOST[:PORT]/`.
    pub(crate) certificates: Vec<PathBuf>,
    /// Keys that nobody reads: a slip, mostly.
    warnings: Vec<String>,
}

/// The part of the file that is about registries; the rest is others'.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    mirrors: BTreeMap<String, Vec<String>>,
    unpack_ratio: Option<u64>,
}

/// The keys of `File`.
const KEYS: &[&str] = &["insecure-registries", "registry-mirrors", "mirrors"];
/// Keys of the same file that other parts of the engine read, or may read.
const OTHERS: &[&str] =
    &["bip", "data-root", "debug", "default-address-pools", "dns", "log-level", "mtu", "unpack-ratio"];

impl Settings {
    /// Reads the machine's and the user's file; one that is not there says nothing.
    ///
    /// # Errors
    /// [`Error::Settings`] for one that cannot be read.
    pub fn load() -> Result<Self, Error> {
        let folders: Vec<_> = [Some(PathBuf::from(MACHINE)), users_folder()].into_iter().flatten().collect();
        let mut settings = Self::default();
        for folder in &folders {
            let path = folder.join("config.toml");
            match fs::read_to_string(&path) {
                Ok(text) => {
                    settings.add(&text).map_err(|reason| Error::settings(&path, reason))?;
                    let found = unknown(&text);
                    settings.warnings.extend(found.iter().map(|text| format!("{}: {text}", path.display())));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::settings(path, error)),
            }
        }
        settings.certificates = folders.iter().map(|folder| folder.join("certs.d")).collect();
        // Where a user of Docker has put them already.
        settings.certificates.push(PathBuf::from("/etc/docker/certs.d"));
        Ok(settings)
    }

    /// What in the files nobody reads, each with its file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        for entry in &file.insecure_registries {
            if entry.contains('/') && network_of(entry).is_none() {
                return Err(format!(
                    "the insecure registry {entry:?} is none of HOST, HOST:PORT, ADDRESS/BITS"
                ));
            }
        }
        self.insecure.extend(file.insecure_registries);
        self.unpack_ratio = file.unpack_ratio.or(self.unpack_ratio);
        let of_docker = ("docker.io".to_owned(), file.registry_mirrors);
        for (domain, mirrors) in file.mirrors.into_iter().chain([of_docker]) {
            for mirror in &mirrors {
                if !mirror.starts_with("https://") && !mirror.starts_with("http://") {
                    return Err(format!("the mirror {mirror:?} begins with neither https:// nor http://"));
                }
            }
            self.mirrors.entry(domain).or_default().extend(mirrors);
        }
        Ok(())
    }

    /// How many times its size a layer may unpack to.
    pub(crate) fn unpack_ratio(&self) -> Option<u64> {
        self.unpack_ratio
    }

    /// Whether the registry of this domain may be spoken to without encryption, or with a certificate that nobody vouches for.
    pub(crate) fn is_insecure(&self, domain: &str) -> bool {
        let host = host_of(domain);
        let address: Option<IpAddr> = host.parse().ok();
        is_here(domain)
            || self.insecure.iter().any(|entry| {
                entry == domain || entry == host || address.is_some_and(|address| covers(entry, address))
            })
    }

    /// The addresses to try before the registry itself, without a slash at their ends.
    pub(crate) fn mirrors(&self, domain: &str) -> impl Iterator<Item = &str> {
        self.mirrors.get(domain).into_iter().flatten().map(|url| url.trim_end_matches('/'))
    }
}

/// Whether a domain is this machine itself.
pub(crate) fn is_here(domain: &str) -> bool {
    let host = host_of(domain);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The keys of a file that are nobody's, with what was meant perhaps.
fn unknown(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap_or_default();
    let nobodys = table.keys().filter(|key| !KEYS.contains(&key.as_str()) && !OTHERS.contains(&key.as_str()));
    nobodys
        .map(|key| {
            let all = KEYS.iter().chain(OTHERS);
            let nearest = all.map(|known| (distance(key, known), *known)).min();
            match nearest.filter(|(distance, _)| *distance <= key.len() / 2) {
                Some((_, known)) => format!("nobody reads the key {key:?}: is {known:?} meant?"),
                None => format!("nobody reads the key {key:?}: of registries there are {}", KEYS.join(", ")),
            }
        })
        .collect()
}

/// How many letters must be put in, taken out or changed to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let changed = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// `$XDG_CONFIG_HOME/sampan`, or `~/.config/sampan`.
fn users_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| Path::new(value).is_absolute());
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    Some(config.or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")))?.join("sampan"))
}

/// The host without the port; an IPv6 address without its brackets.
fn host_of(domain: &str) -> &str {
    match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => domain.split(':').next().unwrap_or(domain),
    }
}

/// Whether the environment says that there is no proxy before a host.
pub(crate) fn is_direct(domain: &str) -> bool {
    let list = ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok());
    list.is_some_and(|list| leaves_out(&list, domain))
}

/// What `NO_PROXY` is as with Docker: names with all that is below them, addresses, networks, or `*`.
fn leaves_out(list: &str, domain: &str) -> bool {
    let host = host_of(domain);
    let address: Option<IpAddr> = host.parse().ok();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let name = entry.trim_start_matches('*').trim_start_matches('.');
        entry == "*"
            || entry == domain
            || entry == host
            || host.strip_suffix(name).is_some_and(|before| before.ends_with('.'))
            || address.is_some_and(|address| covers(entry, address))
    })
}

/// `ADDRESS/BITS`
fn network_of(entry: &str) -> Option<(IpAddr, u32)> {
    let (network, bits) = entry.split_once('/')?;
    let (network, bits): (IpAddr, u32) = (network.parse().ok()?, bits.parse().ok()?);
    (bits <= if network.is_ipv4() { 32 } else { 128 }).then_some((network, bits))
}

/// Whether an entry `ADDRESS/BITS` holds the address.
fn covers(entry: &str, address: IpAddr) -> bool {
    let Some((network, bits)) = network_of(entry) else { return false };
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let ((network, width), (address, own)) = (number(network), number(address));
    // Shifting by all of the bits would keep them: 0 bits cover everything.
    width == own && (bits == 0 || (network ^ address) >> (128 - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let mut settings = Settings::default();
        settings.add(text).unwrap();
        settings
    }

    #[test]
    fn a_registry_is_insecure_by_name_by_network_or_on_this_machine() {
        let settings = settings(r#"insecure-registries = ["a.example:5000", "b.example", "10.0.0.0/8"]"#);
        for domain in [
            "a.example:5000",
            "b.example:1",
            "b.example",
            "10.9.8.7:5000",
            "127.0.0.1:5000",
            "localhost",
            "[::1]:5000",
        ] {
            assert!(settings.is_insecure(domain), "{domain}");
        }
        for domain in ["a.example", "a.example:5001", "11.0.0.1", "docker.io", "localhost.example"] {
            assert!(!settings.is_insecure(domain), "{domain}");
        }
    }

    #[test]
    fn mirrors_of_docker_io_have_a_name_of_their_own() {
        let text = "bip = \"10.0.0.1/16\"\nregistry-mirrors = [\"https://m.example/\"]\n[mirrors]\n\"quay.io\" = [\"http://c:5000\"]";
        let settings = settings(text);
        assert_eq!(settings.mirrors("docker.io").collect::<Vec<_>>(), ["https://m.example"]);
        assert_eq!(settings.mirrors("quay.io").collect::<Vec<_>>(), ["http://c:5000"]);
        assert_eq!(settings.mirrors("other.example").count(), 0);
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        assert_eq!(unknown("bip = \"10.0.0.1/16\"\nunpack-ratio = 9\n[mirrors]\n\"quay.io\" = []"), [""; 0]);
        assert_eq!(
            unknown("insecure-registry = []\nfoo = 1"),
            [
                "nobody reads the key \"foo\": of registries there are insecure-registries, registry-mirrors, mirrors",
                "nobody reads the key \"insecure-registry\": is \"insecure-registries\" meant?",
            ]
        );
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn what_is_no_url_is_refused() {
        Settings::default().add("registry-mirrors = [\"m.example\"]").unwrap_err();
        Settings::default().add("insecure-registries = 5").unwrap_err();
        for entry in ["http://r.example:5000", "r.example/a", "10.0.0.0/33", "::/129", "10.0.0.0/"] {
            let error = Settings::default().add(&format!("insecure-registries = [{entry:?}]")).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{entry}: {error}");
        }
    }

    #[test]
    fn a_proxy_is_left_out_by_name_by_network_or_always() {
        let list = "a.example, .b.example,10.0.0.0/8, ::1,*.c.example";
        for domain in
            ["a.example:5000", "x.a.example", "x.b.example", "x.c.example", "10.1.2.3:5000", "[::1]:5000"]
        {
            assert!(leaves_out(list, domain), "{domain}");
        }
        for domain in ["aa.example", "example", "11.1.2.3", "b.examples"] {
            assert!(!leaves_out(list, domain), "{domain}");
        }
        assert!(leaves_out("*", "x") && !leaves_out("", "x") && !leaves_out(",", "x."));
    }
}
