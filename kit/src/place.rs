//! Where the repository is, and what `setup` makes in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's folder. Cargo names it to what it runs; a copy of this program that is run by itself was built there.
pub(crate) fn repository() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).filter(|path| path.ends_with("kit"));
    let own = own.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    own.parent().unwrap_or(Path::new(".")).to_owned()
}

/// The folder that `setup` fills: `target/kit`, also where Cargo builds elsewhere, for it is what the book says.
pub(crate) fn kit() -> PathBuf {
    std::env::var_os("KIT_DIR").map_or_else(|| repository().join("target/kit"), PathBuf::from)
}

/// Cargo, to be run in the repository. What it hands to this program is this package's own business, and would only make it
/// build things anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    for (name, _) in std::env::vars_os() {
        let own = name.to_string_lossy();
        if own.starts_with("CARGO_PKG_")
            || own.starts_with("CARGO_MANIFEST_")
            || own == "CARGO_PRIMARY_PACKAGE"
        {
            command.env_remove(name);
        }
    }
    command.current_dir(repository());
    command
}

/// A path as the reader would type it: from the repository's folder where that is where they are.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
