//! The programs of this repository: built by Cargo, which also says where they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::place;

/// What a learner needs; the book's builder and the tests are built by who runs them.
const PACKAGES: [&str; 8] =
    ["chroot", "namespaces", "cgroups", "unionfs", "network", "sampan", "sampan-runtime", "probe"];

/// The name and the place of each binary and example.
#[derive(Debug, Default)]
pub(crate) struct Programs(pub(crate) BTreeMap<String, PathBuf>);

impl Programs {
    /// Runs `cargo build`, whose progress goes to the reader's terminal.
    pub(crate) fn build() -> Result<Self> {
        let mut command = place::cargo();
        command.args(["build", "--bins", "--examples", "--message-format", "json-render-diagnostics"]);
        for package in PACKAGES {
            command.args(["--package", package]);
        }
        let mut cargo = command.stdout(Stdio::piped()).spawn().context("run cargo")?;
        let mut programs = Self::default();
        for line in cargo.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
            programs.0.extend(artifact(&line?));
        }
        let status = cargo.wait().context("wait for cargo")?;
        if !status.success() {
            bail!("cargo build failed ({status}): see its messages above");
        }
        programs.add_self()?;
        Ok(programs)
    }

    /// Takes the programs that lie beside this one, and the examples below.
    pub(crate) fn beside() -> Result<Self> {
        let own = std::env::current_exe()?;
        let folder = own.parent().context("this program has no folder")?;
        let mut programs = Self::default();
        for folder in [folder.to_owned(), folder.join("examples")] {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let data = entry.metadata()?;
                // Cargo's own files have a dot or a hash in their names.
                if data.is_file() && is_ours(&name) {
                    programs.0.insert(name, entry.path());
                }
            }
        }
        programs.add_self()?;
        Ok(programs)
    }

    fn add_self(&mut self) -> Result<()> {
        self.0.insert("kit".to_owned(), std::env::current_exe()?);
        Ok(())
    }

    /// Those that belong into the root file system: the probe and the attacks.
    pub(crate) fn inside(&self) -> impl Iterator<Item = (&str, &Path)> {
        let belongs = |name: &str| name == "probe" || starts_with_chapter(name) && !is_chapter(name);
        self.0
            .iter()
            .filter(move |(name, _)| belongs(name))
            .map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// Makes `folder` hold a link to each, and nothing else. Tells whether anything changed.
    pub(crate) fn link(&self, folder: &Path) -> io::Result<bool> {
        fs::create_dir_all(folder)?;
        let mut changed = false;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !self.0.contains_key(entry.file_name().to_string_lossy().as_ref()) {
                fs::remove_file(entry.path())?;
                changed = true;
            }
        }
        for (name, target) in &self.0 {
            let link = folder.join(name);
            if fs::read_link(&link).is_ok_and(|old| old == *target) {
                continue;
            }
            // Made beside and moved over: a name on somebody's PATH never points nowhere.
            let new = folder.join(format!(".{name}"));
            if fs::symlink_metadata(&new).is_ok() {
                fs::remove_file(&new)?;
            }
            symlink(target, &new)?;
            fs::rename(&new, &link)?;
            changed = true;
        }
        Ok(changed)
    }
}

/// The chapters' binaries by name, and the engine's.
fn is_ours(name: &str) -> bool {
    ["probe", "sampan", "sampan-runtime"].contains(&name)
        || starts_with_chapter(name) && !name.contains('.') && !has_hash(name)
}

/// `01-`.
fn starts_with_chapter(name: &str) -> bool {
    let bytes = name.as_bytes();
    matches!(bytes, [b'0'..=b'9', b'0'..=b'9', b'-', ..])
}

fn is_chapter(name: &str) -> bool {
    ["01-chroot", "02-namespaces", "03-cgroups", "04-unionfs", "05-network"].contains(&name)
}

/// `02_escape-0123456789abcdef`, as Cargo names what it links.
fn has_hash(name: &str) -> bool {
    name.rsplit_once('-')
        .is_some_and(|(_, hash)| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A program in a line of Cargo's messages.
fn artifact(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?;
    Some((message.get("target")?.get("name")?.as_str()?.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"01-escape"},"executable":"/t/examples/01-escape"}"#;
        assert_eq!(artifact(line), Some(("01-escape".into(), "/t/examples/01-escape".into())));
        assert_eq!(
            artifact(r#"{"reason":"compiler-artifact","target":{"name":"step"},"executable":null}"#),
            None
        );
        assert_eq!(artifact("Compiling"), None);
    }

    #[test]
    fn links_are_made_once_and_old_ones_removed() {
        let folder = tempfile::tempdir().unwrap();
        let programs = |names: &[&str]| {
            Programs(names.iter().map(|&name| (name.to_owned(), Path::new("/x").join(name))).collect())
        };
        assert!(programs(&["01-chroot", "old"]).link(folder.path()).unwrap());
        assert!(programs(&["01-chroot"]).link(folder.path()).unwrap());
        assert!(!programs(&["01-chroot"]).link(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_probe_and_the_attacks_go_inside() {
        let names = ["01-chroot", "01-escape", "03-hog", "kit", "probe", "sampan"];
        let programs = Programs(names.iter().map(|&name| (name.to_owned(), name.into())).collect());
        assert_eq!(
            programs.inside().map(|(name, _)| name).collect::<Vec<_>>(),
            ["01-escape", "03-hog", "probe"]
        );
        assert!(!is_ours("01_escape-0123456789abcdef") && !is_ours("01-escape.d"));
    }
}
