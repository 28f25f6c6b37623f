//! What this machine calls things: its package manager, its users, its programs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// A program that installs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    /// Debian, Ubuntu and theirs.
    Apt,
    /// Fedora, Red Hat and theirs.
    Dnf,
    /// Arch.
    Pacman,
    /// Alpine.
    Apk,
    /// openSUSE.
    Zypper,
}

/// What one thing is called by each package manager, in the order of [`Manager`].
pub(crate) struct Package {
    apt: &'static str,
    dnf: &'static str,
    pacman: &'static str,
    apk: &'static str,
    zypper: &'static str,
}

pub(crate) const BUSYBOX: Package = Package {
    apt: "busybox-static",
    dnf: "busybox",
    pacman: "busybox",
    apk: "busybox-static",
    zypper: "busybox-static",
};
pub(crate) const NEWUIDMAP: Package =
    Package { apt: "uidmap", dnf: "shadow-utils", pacman: "shadow", apk: "shadow-uidmap", zypper: "shadow" };
pub(crate) const PASTA: Package =
    Package { apt: "passt", dnf: "passt", pacman: "passt", apk: "passt", zypper: "passt" };

impl Manager {
    /// The one that this machine has.
    pub(crate) fn find() -> Option<Self> {
        let managers = [
            ("apt-get", Self::Apt),
            ("dnf", Self::Dnf),
            ("pacman", Self::Pacman),
            ("apk", Self::Apk),
            ("zypper", Self::Zypper),
        ];
        managers.into_iter().find(|(name, _)| program(name).is_some()).map(|(_, manager)| manager)
    }

    /// The command that installs a package.
    pub(crate) fn install(self, package: &Package) -> String {
        let (command, name) = match self {
            Self::Apt => ("apt-get install -y", package.apt),
            Self::Dnf => ("dnf install -y", package.dnf),
            Self::Pacman => ("pacman -S --noconfirm", package.pacman),
            Self::Apk => ("apk add", package.apk),
            Self::Zypper => ("zypper install -y", package.zypper),
        };
        as_root(&format!("{command} {name}"))
    }
}

/// The command that installs a package on this machine.
pub(crate) fn install(package: &Package) -> String {
    Manager::find().map_or_else(
        || format!("install the package that Debian calls {} with your package manager", package.apt),
        |manager| manager.install(package),
    )
}

/// A command that needs root, as this user types it.
pub(crate) fn as_root(command: &str) -> String {
    if geteuid().is_root() { command.to_owned() } else { format!("sudo {command}") }
}

/// Where a program is, by PATH and by the folders that an ordinary user's PATH may lack.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The name of the user who runs this, or the number where there is no name. Read from the file: a static program that asks
/// the C library would make it load libraries of another build.
pub(crate) fn user_name() -> String {
    let uid = geteuid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    };
    users.lines().find_map(name).unwrap_or(uid)
}
