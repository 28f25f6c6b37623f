//! A static busybox: one program that is a whole userland.
//!
//! Looked for in this order: 1. what the reader names; 2. this machine's own, if it is static (a dynamic one would look for
//! its libraries inside the new root, where there are none); 3. what an earlier setup fetched; 4. Debian's package,
//! downloaded and unpacked into target/kit without being installed, which needs no root; 5. with the reader's consent, the
//! distribution's package.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Args;
use crate::host::{self, BUSYBOX, Manager};

pub(crate) fn find(args: &Args, kit: &Path) -> Result<PathBuf> {
    if let Some(given) = &args.busybox {
        if !is_static(given).with_context(|| format!("read {}", given.display()))? {
            bail!(
                "{} is not a static program: it would not start in a root that has no libraries",
                given.display()
            );
        }
        return keep(given, kit);
    }
    let kept = kit.join("busybox");
    if is_static(&kept).unwrap_or(false) {
        return Ok(kept);
    }
    if let Some(own) = installed() {
        return Ok(own);
    }
    match Manager::find() {
        Some(Manager::Apt) => keep(&download(kit)?, kit),
        Some(manager) => install(manager, args.yes),
        None => bail!("no static busybox here: fetch one and run `cargo kit setup --busybox FILE`"),
    }
}

/// This machine's own, where it is static.
pub(crate) fn installed() -> Option<PathBuf> {
    let names = ["busybox", "busybox-static", "busybox.static"];
    names.into_iter().filter_map(host::program).find(|path| is_static(path).unwrap_or(false))
}

/// Copies it into the kit, so that the next setup finds it without asking.
fn keep(busybox: &Path, kit: &Path) -> Result<PathBuf> {
    let (kept, new) = (kit.join("busybox"), super::temporary(kit, "busybox"));
    if fs::read(&kept).is_ok_and(|old| fs::read(busybox).is_ok_and(|new| new == old)) {
        return Ok(kept);
    }
    fs::copy(busybox, &new).with_context(|| format!("copy {}", busybox.display()))?;
    fs::rename(&new, &kept)?;
    Ok(kept)
}

/// Fetches Debian's package and unpacks it. Package lists that are missing or old are fetched into the kit's own folder, so
/// that the machine's stay as they are.
fn download(kit: &Path) -> Result<PathBuf> {
    let folder = super::temporary(kit, "package");
    fs::create_dir_all(folder.join("lists/partial"))?;
    fs::create_dir_all(folder.join("cache/archives/partial"))?;
    println!("downloading Debian's package busybox-static into {}", crate::place::shown(kit));
    let private = [
        format!("Dir::State::Lists={}", folder.join("lists").display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
    ];
    let apt = |action: &[&str], options: &[String]| {
        // Unpacking as another user, which apt tries as root, fails in a folder of root's; as root it warns about that.
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "APT::Sandbox::User=root"]).args(action).current_dir(&folder);
        for option in options {
            command.args(["-o", option]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).output()
    };
    let mut downloaded = apt(&["download", "busybox-static"], &[])?;
    if !downloaded.status.success() {
        println!("the package lists of this machine do not help: fetching fresh ones, into the same folder");
        apt(&["update"], &private)?;
        downloaded = apt(&["download", "busybox-static"], &private)?;
    }
    let package = fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(package) = package.filter(|_| downloaded.status.success()) else {
        bail!(
            "apt-get download busybox-static failed: {}\n{}",
            String::from_utf8_lossy(&downloaded.stderr).trim(),
            "without a network: copy a static busybox here and run `cargo kit setup --busybox FILE`"
        );
    };
    let tree = folder.join("tree");
    let status =
        Command::new("dpkg-deb").arg("-x").args([&package, &tree]).status().context("run dpkg-deb")?;
    let busybox =
        ["bin/busybox", "usr/bin/busybox"].map(|path| tree.join(path)).into_iter().find(|path| path.exists());
    match busybox.filter(|_| status.success()) {
        Some(busybox) => Ok(busybox),
        None => bail!("{} holds no busybox ({status})", package.display()),
    }
}

/// Installs the distribution's package, after a question.
fn install(manager: Manager, yes: bool) -> Result<PathBuf> {
    let command = manager.install(&BUSYBOX);
    if !yes && !ask(&format!("no static busybox here. Run `{command}`?"))? {
        bail!("no static busybox here: run `{command}`, or `cargo kit setup --busybox FILE`");
    }
    let mut words = command.split(' ');
    let status =
        Command::new(words.next().unwrap_or_default()).args(words).status().context("install busybox")?;
    match installed() {
        Some(busybox) if status.success() => Ok(busybox),
        _ => bail!("`{command}` gave no static busybox ({status}): run `cargo kit setup --busybox FILE`"),
    }
}

/// A question on a terminal; without one, the answer is no.
fn ask(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The names that it answers to.
pub(crate) fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output =
        Command::new(busybox).arg("--list").output().with_context(|| format!("run {}", busybox.display()))?;
    let mut names: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    names.retain(|name| !name.is_empty() && name != "busybox" && !name.contains('/'));
    if names.len() < 20 {
        bail!("{} does not know its applets: it is no usual busybox", busybox.display());
    }
    names.sort();
    Ok(names)
}

/// `1.35.0`, from its first line: `BusyBox v1.35.0 (Debian 1:1.35.0-4) multi-call binary.`
pub(crate) fn version(busybox: &Path) -> Result<String> {
    let output =
        Command::new(busybox).arg("--help").output().with_context(|| format!("run {}", busybox.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = text.split_whitespace().nth(1).and_then(|word| word.strip_prefix('v'));
    Ok(word.unwrap_or("unknown").to_owned())
}

/// Whether an ELF file asks for no interpreter (the dynamic linker): program headers of type PT_INTERP. See elf(5).
pub(crate) fn is_static(path: &Path) -> io::Result<bool> {
    Ok(asks_for_interpreter(&fs::read(path)?) == Some(false))
}

fn asks_for_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, size: usize| {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    // 64 bits, little endian; the kit runs on nothing else yet.
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        let at = usize::try_from(start.checked_add(header * size)?).ok()?;
        if number(at, 4)? == u64::from(PT_INTERP) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_is_told_from_a_dynamic_one_and_from_no_program() {
        // This test is itself a static program: see .cargo/config.toml.
        assert!(is_static(&std::env::current_exe().unwrap()).unwrap());
        assert_eq!(asks_for_interpreter(b"#!/bin/sh\n"), None);
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        assert_eq!(asks_for_interpreter(&elf), Some(false));
        elf[64] = 3;
        assert_eq!(asks_for_interpreter(&elf), Some(true));
        elf[56] = 9;
        assert_eq!(asks_for_interpreter(&elf), Some(true));
        elf[64] = 1;
        assert_eq!(asks_for_interpreter(&elf), None);
    }
}
