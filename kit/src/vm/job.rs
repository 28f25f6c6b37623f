//! What the guest is to do, as the shell script that its first process reads from a disk: see guest/init.sh.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A command, and where it runs.
pub(crate) struct Job {
    /// Folders of the host that the guest sees at the same path.
    pub(crate) shares: Vec<PathBuf>,
    pub(crate) folder: PathBuf,
    pub(crate) environment: Vec<(String, OsString)>,
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Rows and columns of the terminal that it is to have.
    pub(crate) terminal: Option<(u16, u16)>,
}

impl Job {
    /// The names of the shares, for the two who must agree on them.
    pub(super) fn tags(&self) -> impl Iterator<Item = (String, &Path)> {
        self.shares.iter().enumerate().map(|(number, path)| (format!("share{number}"), path.as_path()))
    }

    /// The script, with lines added up to a whole number of a disk's blocks.
    pub(super) fn script(&self) -> Vec<u8> {
        let mut shares = OsString::new();
        for (number, (tag, path)) in self.tags().enumerate() {
            shares.push(if number == 0 { "" } else { "\n" });
            shares.push(format!("{tag} "));
            shares.push(path);
        }
        let terminal = self.terminal.map(|(rows, columns)| format!("{rows} {columns}")).unwrap_or_default();
        let mut script = Vec::from(b"shares=");
        script.extend(quoted(&shares));
        script.extend(b"\nterminal=");
        script.extend(quoted(OsStr::new(&terminal)));
        script.extend(b"\njob() {\ncd ");
        script.extend(quoted(self.folder.as_os_str()));
        script.extend(b" || exit 125\n");
        for (name, value) in &self.environment {
            script.extend(format!("export {name}=").bytes());
            script.extend(quoted(value));
            script.push(b'\n');
        }
        script.extend(b"exec");
        for word in &self.command {
            script.push(b' ');
            script.extend(quoted(word));
        }
        script.extend(b"\n}\n");
        script.resize(script.len().next_multiple_of(4096), b'\n');
        script
    }
}

/// A word as a shell reads it: in single quotes nothing means anything but the quote itself.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        if byte == b'\'' { quoted.extend(b"'\\''") } else { quoted.push(byte) }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_job_as_it_was_meant() {
        let job = Job {
            shares: vec!["/tmp/a b".into(), "/c".into()],
            folder: "/".into(),
            environment: vec![("IT".into(), "isn't $HOME".into())],
            command: ["printf", "%s|", "$IT", "a  b", "'"].map(OsString::from).to_vec(),
            terminal: None,
        };
        let script = job.script();
        assert_eq!(script.len() % 4096, 0);
        let script =
            format!("{}\nprintf '%s;' \"$shares\" \"$terminal\"; job; ", String::from_utf8(script).unwrap());
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "share0 /tmp/a b\nshare1 /c;;$IT|a  b|'|");
    }
}
