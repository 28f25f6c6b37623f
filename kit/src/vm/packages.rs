//! Debian's packages, downloaded and unpacked without being installed: no root is needed, and this machine stays as it is.
//!
//! Which packages belong to those that we name, apt says for a machine that has none yet (an empty status file).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A folder with downloaded packages.
pub(super) struct Packages {
    folder: PathBuf,
    /// Options for apt: its own lists where this machine's do not help.
    lists: Vec<String>,
}

impl Packages {
    /// The packages kept in `folder`. Tries whether apt knows `name`; if not, fetches lists into the folder.
    pub(super) fn open(folder: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(folder.join("lists/partial"))?;
        let mut packages = Self { folder: folder.to_owned(), lists: Vec::new() };
        if packages.apt("apt-cache", &["show", name])?.status.success() {
            return Ok(packages);
        }
        println!("apt does not know {name}: fetching package lists, into {}", crate::place::shown(folder));
        packages.lists = vec!["-o".into(), format!("Dir::State::Lists={}", folder.join("lists").display())];
        packages.apt("apt-get", &["update"])?;
        let known = packages.apt("apt-cache", &["show", name])?;
        if !known.status.success() {
            bail!("apt knows no package {name}: {}", said(&known));
        }
        Ok(packages)
    }

    /// `linux-image-6.1.0-9-cloud-amd64`, for `linux-image-cloud-amd64`, which is empty and depends on it.
    pub(super) fn versioned(&self, kernel: &str) -> Result<String> {
        let output = self.apt("apt-cache", &["depends", kernel])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let image = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        Ok(image.map_or_else(|| kernel.to_owned(), |rest| format!("linux-image-{rest}")))
    }

    /// The named packages and all that they depend on, as file names by name.
    pub(super) fn closure(&self, names: &[&str]) -> Result<Vec<(String, String)>> {
        let nothing = "Dir::State::status=/dev/null";
        let mut args = vec!["install", "--print-uris", "-qq", "-y", "--no-install-recommends", "-o", nothing];
        args.extend(names);
        let (output, found) = self.uris(&args)?;
        if !output.status.success() || found.is_empty() {
            bail!("apt cannot tell what {} depend on: {}", names.join(" "), said(&output));
        }
        Ok(found)
    }

    /// Downloads what is not there yet, and gives the files.
    pub(super) fn download(&self, packages: &[(String, String)]) -> Result<Vec<PathBuf>> {
        let path = |file: &String| self.folder.join(file);
        let missing: Vec<&str> =
            packages.iter().filter(|(_, file)| !path(file).exists()).map(|(name, _)| name.as_str()).collect();
        if !missing.is_empty() {
            println!("downloading {} packages of Debian's", missing.len());
            let output = self.apt("apt-get", &[&["download", "-qq"], missing.as_slice()].concat())?;
            if !output.status.success() {
                bail!("apt-get download failed: {}", said(&output));
            }
        }
        packages
            .iter()
            .map(|(name, file)| {
                if path(file).exists() {
                    Ok(path(file))
                } else {
                    bail!("apt downloaded no {file} for {name}")
                }
            })
            .collect()
    }

    /// Downloads one package, and gives its file.
    pub(super) fn download_one(&self, name: &str) -> Result<PathBuf> {
        let (output, mut found) = self.uris(&["download", "--print-uris", "-qq", name])?;
        found.truncate(1);
        if found.is_empty() {
            bail!("apt cannot download {name}: {}", said(&output));
        }
        Ok(self.download(&found)?.remove(0))
    }

    /// What apt would download. It leaves out what lies in the folder that it runs in, or in its cache: here both are empty.
    fn uris(&self, args: &[&str]) -> Result<(Output, Vec<(String, String)>)> {
        let empty = self.folder.join("lists/partial");
        let cache = format!("Dir::Cache::Archives={}", empty.display());
        let output = self.apt_in(&empty, "apt-get", &[&["-o", &cache], args].concat())?;
        let found = read_uris(&String::from_utf8_lossy(&output.stdout));
        Ok((output, found))
    }

    fn apt(&self, program: &str, args: &[&str]) -> Result<Output> {
        self.apt_in(&self.folder, program, args)
    }

    fn apt_in(&self, folder: &Path, program: &str, args: &[&str]) -> Result<Output> {
        // Unpacking as another user, which apt tries as root, fails in a folder of root's; as root it warns about that.
        let mut command = Command::new(program);
        command.args(["-o", "APT::Sandbox::User=root"]).args(&self.lists).args(args);
        command.current_dir(folder).stdin(Stdio::null());
        command.output().with_context(|| format!("run {program}"))
    }
}

/// Lines of `'URI' FILE SIZE HASH`.
fn read_uris(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let file = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ').next()?;
        Some((file.split('_').next()?.to_owned(), file.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Unpacks packages into a root that has `/bin` as a link to `/usr/bin`, as Debian has it: `dpkg-deb -x` would put a folder in
/// the link's place.
pub(super) fn unpack(files: &[PathBuf], root: &Path) -> Result<()> {
    for file in files {
        let mut reader = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("run dpkg-deb")?;
        let archive = reader.stdout.take().context("dpkg-deb has no output")?;
        let written = Command::new("tar")
            .args(["--extract", "--preserve-permissions", "--keep-directory-symlink", "--directory"])
            .arg(root)
            .stdin(archive)
            .status()
            .context("run tar")?;
        if !reader.wait()?.success() || !written.success() {
            bail!("cannot unpack {}", file.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second making needs all packages, whatever the first has downloaded.
    #[test]
    fn what_is_there_already_is_found_again() {
        if crate::host::program("apt-get").is_none() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir_all(path("archive")).unwrap();
        fs::write(path("archive/x_1_all.deb"), "abc").unwrap();
        fs::write(
            path("archive/Packages"),
            "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: y\nFilename: ./x_1_all.deb\nSize: 3\n\
             SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\nDescription: z\n\n",
        )
        .unwrap();
        let source = format!("deb [trusted=yes] copy:{} ./\n", path("archive").display());
        fs::write(path("sources.list"), source).unwrap();
        let folder = path("packages");
        fs::create_dir_all(folder.join("lists/partial")).unwrap();
        let options = [
            format!("Dir::State::Lists={}", folder.join("lists").display()),
            format!("Dir::Etc::SourceList={}", path("sources.list").display()),
            "Dir::Etc::SourceParts=/nonexistent".to_owned(),
            format!("Dir::Cache::Archives={}", folder.display()),
        ];
        let lists = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        let packages = Packages { folder, lists };
        packages.apt("apt-get", &["update"]).unwrap();
        for _ in 0..2 {
            assert_eq!(fs::read(packages.download_one("x").unwrap()).unwrap(), b"abc");
            assert_eq!(packages.closure(&["x"]).unwrap(), [("x".to_owned(), "x_1_all.deb".to_owned())]);
        }
    }

    #[test]
    fn apts_list_is_read() {
        let text = "'http://deb.debian.org/x/bash_5.2-2_amd64.deb' bash_5.2-2_amd64.deb 14 SHA256:aa\nE: no\n\
            'http://h/y/uidmap_4.13%2bdfsg1-1_amd64.deb' uidmap_1%3a4.13_amd64.deb 9 SHA256:bb\n";
        assert_eq!(
            read_uris(text),
            [
                ("bash".to_owned(), "bash_5.2-2_amd64.deb".to_owned()),
                ("uidmap".to_owned(), "uidmap_1%3a4.13_amd64.deb".to_owned())
            ]
        );
    }
}
