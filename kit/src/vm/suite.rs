//! The tests of this repository, in the virtual machine.
//!
//! They are built here, where the compiler is; they and the programs that they try are static, and run there.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Options, job, machine, share};
use crate::place;

/// Test programs that ask the sources and Cargo, or the host, but not the kernel.
const NOT_THERE: [&str; 4] = ["structure", "harness", "kit", "book-builder"];

/// Where a test's files lie in the guest: on its disk, for not everything can be done on a tmpfs of its kernel.
const FOLDER: &str = "/var/tmp";

/// What the guest is there for, and may not lack.
const NEEDED: &str = "cgroup_v2,overlay,nftables";

/// Builds them, boots, runs those whose names contain one of `names`, and hands each line that they say to `told`.
///
/// Gives whether all test programs ended well.
pub(crate) fn run(
    options: &Options,
    names: &[String],
    quick: bool,
    told: impl FnMut(&str) + Send + 'static,
) -> Result<bool> {
    let machine = machine(options)?;
    let programs = build()?;
    let mut words: Vec<OsString> = ["sh", "-c", SCRIPT, "sh"].map(OsString::from).to_vec();
    words.push(names.len().to_string().into());
    words.extend(names.iter().map(OsString::from));
    words.extend(
        programs.iter().flat_map(|program| [program.folder.clone().into(), program.path.clone().into()]),
    );
    let mut job = job(place::repository(), words);
    // Where Cargo builds elsewhere, that is shared too.
    let folder = programs.first().and_then(|program| program.path.ancestors().nth(2));
    if let Some(folder) = folder {
        share(&mut job.shares, folder.to_owned());
    }
    let mut set = |name: &str, value: OsString| job.environment.push((name.to_owned(), value));
    set("KIT_RUN", FOLDER.into());
    // Insta would ask Cargo, which is not there.
    set("INSTA_WORKSPACE_ROOT", place::repository().into());
    // Emulated, everything takes longer.
    set("KIT_TIME_LIMIT", "600".into());
    set("KIT_REQUIRE", if options.systemd { format!("{NEEDED},systemd").into() } else { NEEDED.into() });
    if quick {
        set("KIT_QUICK", "1".into());
    }
    let status = machine.run(&job, Lines { rest: Vec::new(), told }, std::io::stderr())?;
    Ok(status == 0)
}

/// `sh NUMBER NAME... FOLDER PROGRAM...`: each program in its package's folder, as Cargo runs it.
const SCRIPT: &str = r#"
count=$1; shift
names=
while [ "$count" -gt 0 ]; do
    names="$names '$(printf %s "$1" | sed "s/'/'\\\\''/g")'"; shift; count=$((count - 1))
done
status=0
while [ $# -gt 0 ]; do
    cd "$1" && eval "CARGO_MANIFEST_DIR=\$1 \"\$2\" $names" || status=1
    shift 2
done
exit $status
"#;

/// A test program, and the folder of its package.
struct Program {
    path: PathBuf,
    folder: PathBuf,
}

/// Builds all tests, and the programs that they run.
fn build() -> Result<Vec<Program>> {
    let mut cargo = place::cargo();
    cargo.args(["test", "--workspace", "--exclude", "book-builder", "--no-run", "--message-format"]);
    cargo.arg("json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut cargo = cargo.spawn().context("run cargo")?;
    let mut programs = Vec::new();
    for line in cargo.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        programs.extend(program(&line?));
    }
    if !cargo.wait().context("wait for cargo")?.success() {
        bail!("the tests do not compile: see Cargo's messages above");
    }
    // The many that are quick first: what they find, the others only meet.
    programs.sort_by_key(|program| {
        program.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kernel-"))
    });
    Ok(programs)
}

/// A test program in a line of Cargo's messages.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = Path::new(message.get("executable")?.as_str()?);
    let name = message.get("target")?.get("name")?.as_str()?;
    let test = message.get("profile")?.get("test")?.as_bool()?;
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
    (test && !NOT_THERE.contains(&name)).then(|| Program { path: path.to_owned(), folder: folder.to_owned() })
}

/// Hands on what is written to it line by line.
struct Lines<F> {
    rest: Vec<u8>,
    told: F,
}

impl<F: FnMut(&str)> Write for Lines<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.rest.extend(bytes);
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            // A failing test may print anything.
            (self.told)(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r'));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole() {
        let mut told = Vec::new();
        let mut lines = Lines { rest: Vec::new(), told: |line: &str| told.push(line.to_owned()) };
        for part in ["one\ntw", "o", "\r\nthr"] {
            lines.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(told, ["one", "two"]);
    }

    #[test]
    fn test_programs_are_found_and_no_others() {
        let line = |test: bool, name: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/r/target/{name}-1"}}"#
            )
        };
        let found = program(&line(true, "kernel")).unwrap();
        assert_eq!((found.path, found.folder), ("/r/target/kernel-1".into(), "/r/tests".into()));
        assert!(program(&line(false, "kernel")).is_none());
        assert!(program(&line(true, "structure")).is_none());
    }
}
