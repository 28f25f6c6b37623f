//! `cargo kit setup`: the programs, a root file system, and an archive of it.
//!
//! ```text
//! target/kit/
//!   bin/           links to every binary and example of this repository: put it on your PATH
//!   rootfs/        a small root file system: busybox, /etc, and in /kit the probe and the attacks
//!   busybox.tar    the same as an archive, as `docker export` would give it
//! ```
//!
//! It needs no root, no container registry, and nothing installed. Run again it only makes what has changed. The tree is put
//! together beside its place and moved there whole, so nobody ever meets half of it, also when this is killed.
//!
//! In reading order: [`programs`], [`busybox`], [`tree`], [`archive`].

mod archive;
mod busybox;
mod programs;
mod tree;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::place;

pub(crate) use busybox::installed as installed_busybox;
pub(crate) use programs::Programs;

/// Build the programs and make a root file system in target/kit
///
/// Run it again whenever you like: it makes what is missing or has changed. It needs no root and installs nothing on this
/// machine unless it asks first.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example:\n  cargo kit setup\n  export PATH=$PWD/target/kit/bin:$PATH")]
pub(crate) struct Args {
    /// Take this busybox, which must be static
    #[arg(long, value_name = "FILE")]
    pub(crate) busybox: Option<PathBuf>,
    /// Do not ask before installing a package on this machine
    #[arg(long)]
    pub(crate) yes: bool,
    /// Do not run Cargo: take the programs as they lie beside this one
    #[arg(long)]
    pub(crate) built: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let made = make(args)?;
    let kit = place::kit();
    println!("{}: {}", place::shown(&kit), if made { "made" } else { "nothing to do" });
    println!("  export PATH={}:$PATH", kit.join("bin").display());
    Ok(ExitCode::SUCCESS)
}

/// Makes what is missing, and tells whether anything was.
pub(crate) fn make(args: &Args) -> Result<bool> {
    let kit = place::kit();
    fs::create_dir_all(&kit).with_context(|| format!("make {}", kit.display()))?;
    // Two setups at once would remove each other's work.
    let lock = File::create(kit.join(".lock")).context("make the lock file of setup")?;
    lock.lock().context("wait for another setup")?;
    sweep(&kit)?;

    let programs = if args.built { Programs::beside()? } else { Programs::build()? };
    let linked = programs.link(&kit.join("bin")).context("link the programs")?;
    let busybox = busybox::find(args, &kit)?;
    let plan = tree::plan(&busybox::applets(&busybox)?, &busybox::version(&busybox)?, &busybox, &programs);
    let made = make_tree(&kit, &plan)?;
    Ok(linked || made)
}

/// Makes the tree and its archive, unless they are what the plan says.
fn make_tree(kit: &Path, plan: &[tree::Entry]) -> Result<bool> {
    let (rootfs, archive, stamp) = (kit.join("rootfs"), kit.join("busybox.tar"), kit.join(".stamp"));
    let sources = tree::stamp(plan)?;
    if fs::read_to_string(&stamp).is_ok_and(|old| old == sources)
        && tree::is_there(&rootfs, plan)
        && archive.exists()
    {
        return Ok(false);
    }
    let new = temporary(kit, "rootfs");
    tree::make(&new, plan).with_context(|| format!("make {}", new.display()))?;
    let new_archive = temporary(kit, "tar");
    archive::write(&new, plan, &new_archive).with_context(|| format!("write {}", new_archive.display()))?;
    // The stamp goes first and comes last: whatever happens between, the next setup makes all of it again.
    remove_file(&stamp)?;
    put(&new, &rootfs).with_context(|| format!("put {} in its place", rootfs.display()))?;
    fs::rename(&new_archive, &archive).context("put the archive in its place")?;
    let new_stamp = temporary(kit, "stamp");
    fs::write(&new_stamp, sources)?;
    fs::rename(&new_stamp, &stamp)?;
    sweep(kit)?;
    Ok(true)
}

/// A name that [`sweep`] removes if this process does not.
fn temporary(kit: &Path, what: &str) -> PathBuf {
    kit.join(format!(".new-{what}"))
}

/// Moves a folder to its place, and what was there out of it, in one call: nobody finds the place empty.
fn put(new: &Path, place: &Path) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(new, place);
    }
    match renameat2(AT_FDCWD, new, AT_FDCWD, place, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(()),
        // Not every file system can exchange two names.
        Err(_) => {
            fs::rename(place, new.with_extension("old"))?;
            fs::rename(new, place)
        }
    }
}

/// Removes what an earlier setup, or a killed one, left.
fn sweep(kit: &Path) -> Result<()> {
    for entry in fs::read_dir(kit)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(".new-") {
            continue;
        }
        let (path, is_dir) = (entry.path(), entry.file_type()?.is_dir());
        if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
