//! Console blocks of the book: read out of Markdown, run, and compared with what the page says.
//!
//! ````text
//! ```console
//! $ 01-chroot target/kit/rootfs /bin/ls /
//! bin
//! ...
//! $ 01-chroot target/kit/rootfs /bin/false
//! # exit: 1
//! ```
//! ````
//!
//! A line that begins with `$ ` is run by `sh -c` in the repository's root; one that ends with a backslash goes on in the next.
//! The lines below are what it writes, on standard output and standard error together: `[..]` stands for anything within a
//! line, a line `...` for any number of lines, `# exit: N` for an exit status other than 0. The words after `console` say as
//! whom and where it runs: `user` as an ordinary user, else as root; `needs:program:pasta` for a [`Need`].

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nix::mount::MsFlags;

use crate::inside::{cover, mount_at};
use crate::{Host, Need, Outcome, tree};

/// A fenced block of a Markdown file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// What stands behind the opening fence: empty where somebody forgot it.
    pub label: String,
    /// The lines inside.
    pub text: Vec<String>,
    /// Whether it has an end.
    pub closed: bool,
}

/// All fenced blocks of a Markdown text.
pub fn fences(markdown: &str) -> Vec<Fence> {
    let mut found: Vec<Fence> = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for (number, line) in markdown.lines().enumerate() {
        let body = line.trim_start();
        let length = body.len() - body.trim_start_matches('`').len();
        match (&open, length >= 3) {
            (None, true) => {
                let label = body[length..].trim().to_owned();
                found.push(Fence { line: number + 1, label, text: Vec::new(), closed: false });
                open = Some((body[..length].to_owned(), line.len() - body.len()));
            }
            (Some((fence, _)), _) if body.trim_end() == fence => {
                found.last_mut().into_iter().for_each(|fence| fence.closed = true);
                open = None;
            }
            (Some((_, indent)), _) => {
                let text = line.get(*indent..).filter(|_| line[..*indent].trim().is_empty()).unwrap_or(body);
                found.last_mut().into_iter().for_each(|fence| fence.text.push(text.to_owned()));
            }
            (None, false) => {}
        }
    }
    found
}

/// A console block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Whether an ordinary user runs it.
    pub user: bool,
    /// What it needs of the machine.
    pub needs: Vec<Need>,
    /// The commands, with what each must say.
    pub commands: Vec<Command>,
}

/// One command of a console block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What `sh -c` runs.
    pub shell: String,
    /// The lines that it must write, with wild cards.
    pub expected: Vec<String>,
    /// The exit status that it must have.
    pub code: i32,
}

impl Transcript {
    /// Reads a block; none for a block that is no console block.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn parse(fence: &Fence) -> Result<Option<Self>, String> {
        let mut words = fence.label.split([',', ' ']).filter(|word| !word.is_empty());
        if words.next() != Some("console") {
            return Ok(None);
        }
        let mut transcript = Self { user: false, needs: vec![Need::Rootfs], commands: Vec::new() };
        for word in words {
            match word.strip_prefix("needs:") {
                Some(need) => {
                    transcript.needs.push(Need::parse(need).ok_or(format!("no such need: {need}"))?);
                }
                None if word == "user" => transcript.user = true,
                None => return Err(format!("console,{word}: nobody knows what that means")),
            }
        }
        transcript.needs.insert(0, if transcript.user { Need::UserNamespaces } else { Need::Root });
        let mut goes_on = false;
        for line in &fence.text {
            let last = transcript.commands.last_mut();
            match (line.strip_prefix("$ "), last) {
                (_, Some(last)) if goes_on => {
                    last.shell.push('\n');
                    last.shell.push_str(line);
                    goes_on = line.ends_with('\\');
                }
                (Some(shell), _) => {
                    goes_on = shell.ends_with('\\');
                    let shell = shell.to_owned();
                    transcript.commands.push(Command { shell, expected: Vec::new(), code: 0 });
                }
                (None, Some(last)) => match line.strip_prefix("# exit: ") {
                    Some(code) => {
                        last.code = code.trim().parse().map_err(|_| format!("no number: {line}"))?;
                    }
                    None => last.expected.push(line.clone()),
                },
                (None, None) => return Err(format!("output without a command: {line}")),
            }
        }
        if transcript.commands.is_empty() { Err("no command".into()) } else { Ok(Some(transcript)) }
    }

    /// Runs the commands, and compares.
    ///
    /// # Errors
    /// The first command that says or does something else, both ways side by side.
    pub fn run(&self, host: &Host) -> Outcome {
        let user = self.user.then(|| host.as_user());
        let host = user.as_ref().unwrap_or(host);
        let repository = stage(host)?;
        let path = repository.join("target/kit/bin");
        for command in &self.commands {
            // One file for both streams, or their order would be lost.
            // A busy machine needs longer than a page waits between two commands of a line.
            let shell = format!("exec 2>&1\n{PAUSES}{}", command.shell);
            let cmd = host.cmd("sh", ["-c", &shell]).cwd(&repository);
            let path =
                format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", path.display());
            let output = cmd.env("PATH", path).limit(std::time::Duration::from_secs(120)).run()?;
            let actual: Vec<&str> = output.stdout.lines().collect();
            if let Err(reached) = matches(&command.expected, &actual) {
                return Err(difference(command, &actual, reached).into());
            }
            if output.code != command.code {
                let (expected, code) = (command.code, output.code);
                return Err(format!("$ {}\nexit status {code}, not {expected}", command.shell).into());
            }
        }
        Ok(())
    }
}

/// Half a second on the page is three times as long in a test.
const PAUSES: &str = "sleep() { case $1 in 0.*|1) command sleep 1.5 ;; *) command sleep \"$@\" ;; esac; }\n";

/// Makes the repository, as the test sees it, the test's own: an overlay over it, and in `target/kit` what `cargo kit setup`
/// makes, with the binaries that are tested.
fn stage(host: &Host) -> Result<std::path::PathBuf, Box<dyn Error>> {
    let repository = host.place().repository.clone();
    if !nix::unistd::geteuid().is_root() {
        return Ok(repository);
    }
    host.uplink()?;
    let kit = host.new_dir()?;
    host.fill_rootfs(&kit.join("rootfs"))?;
    fs::copy(host.tar(), kit.join("busybox.tar"))?;
    fs::create_dir(kit.join("bin"))?;
    for folder in [host.place().bin.clone(), host.place().bin.join("examples")] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if entry.path().is_file() && !name.to_string_lossy().contains('.') {
                // An example that is there as a program too.
                let _ = std::os::unix::fs::symlink(entry.path(), kit.join("bin").join(name));
            }
        }
    }
    cover(&repository)?;
    fs::create_dir_all(repository.join("target/kit"))?;
    let source = kit.to_string_lossy();
    mount_at(Some(&source), &repository.join("target/kit"), None, MsFlags::MS_BIND, "")?;
    let (user, group) = host.ids();
    tree::give(&repository, user, group)?;
    Ok(repository)
}

/// Compares lines with patterns. `Err` gives how many patterns could be satisfied.
///
/// # Errors
/// The number of the first pattern, from 0, that no way of reading the wild cards satisfies.
pub fn matches(expected: &[String], actual: &[&str]) -> Result<(), usize> {
    // Which numbers of actual lines the patterns so far may have used up.
    let mut used = vec![0];
    for (number, pattern) in expected.iter().enumerate() {
        let next: Vec<usize> = if pattern.trim() == "..." {
            (used[0]..=actual.len()).collect()
        } else {
            let fits = |&at: &usize| actual.get(at).is_some_and(|line| line_matches(pattern, line));
            used.into_iter().filter(fits).map(|at| at + 1).collect()
        };
        if next.is_empty() {
            return Err(number);
        }
        used = next;
    }
    if used.contains(&actual.len()) { Ok(()) } else { Err(expected.len()) }
}

/// Compares one line, in which `[..]` stands for anything; spaces at the end do not count.
pub fn line_matches(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (pattern.trim_end(), line.trim_end());
    let mut pieces = pattern.split("[..]");
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn difference(command: &Command, actual: &[&str], reached: usize) -> String {
    let mut text = format!("$ {}\n--- the page says\n", command.shell);
    for (number, line) in command.expected.iter().enumerate() {
        let _ = writeln!(text, "{} {line}", if number == reached { ">" } else { " " });
    }
    if reached == command.expected.len() {
        text.push_str("> (no more)\n");
    }
    text.push_str("--- it wrote\n");
    for line in actual {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// All Markdown files below a folder, sorted.
pub fn markdown_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(markdown_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Transcript>, String> {
        Transcript::parse(&fences(text)[0])
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_block_is_commands_with_their_output() {
        let text =
            "Text\n```console,user,needs:program:pasta\n$ one \\\n  two\nout\n# exit: 3\n$ three\n```\n";
        let transcript = parse(text).unwrap().unwrap();
        assert!(transcript.user);
        assert_eq!(transcript.needs, [Need::UserNamespaces, Need::Rootfs, Need::Program("pasta")]);
        assert_eq!(transcript.commands.len(), 2);
        assert_eq!(transcript.commands[0].shell, "one \\\n  two");
        assert_eq!(transcript.commands[0].expected, ["out"]);
        assert_eq!(transcript.commands[0].code, 3);
        assert_eq!(transcript.commands[1].code, 0);
    }

    #[test]
    fn a_block_that_is_wrong_is_refused() {
        assert!(parse("```console\nout\n```").is_err());
        assert!(parse("```console\n```").is_err());
        assert!(parse("```console,usr\n$ true\n```").is_err());
        assert!(parse("```console\n$ true\n# exit: many\n```").is_err());
        assert_eq!(parse("```text\n$ true\n```"), Ok(None));
    }

    #[test]
    fn fences_know_their_label_and_their_end() {
        let found = fences("````text\n```\ninner\n```\n````\n- item\n  ```sh\n  true\n  ```\n```\nopen");
        let seen: Vec<_> =
            found.iter().map(|fence| (fence.line, fence.label.as_str(), fence.closed)).collect();
        assert_eq!(seen, [(1, "text", true), (7, "sh", true), (10, "", false)]);
        assert_eq!(found[1].text, ["true"]);
    }

    #[test]
    fn a_line_matches_with_wild_cards_inside() {
        assert!(line_matches("pid [..] is [..].", "pid 7 is init."));
        assert!(line_matches("[..]", ""));
        assert!(line_matches("a  ", "a"));
        assert!(!line_matches("pid [..] is [..].", "pid 7 is init"));
        assert!(!line_matches("ab[..]bc", "abc"));
        assert!(!line_matches("a", "ab"));
    }

    #[test]
    fn dots_stand_for_any_number_of_lines() {
        assert_eq!(matches(&lines("a\n...\nc"), &["a", "c"]), Ok(()));
        assert_eq!(matches(&lines("a\n...\nc"), &["a", "b", "c", "c"]), Ok(()));
        assert_eq!(matches(&lines("...\nc\n..."), &["a", "b"]), Err(1));
        assert_eq!(matches(&lines("a"), &["a", "b"]), Err(1));
        assert_eq!(matches(&lines("a\nb"), &["a"]), Err(1));
        assert_eq!(matches(&[], &[]), Ok(()));
    }

    #[test]
    fn a_difference_points_at_the_line() {
        let command = Command { shell: "x".into(), expected: lines("a\nb"), code: 0 };
        let text = difference(&command, &["a", "c"], 1);
        assert_eq!(text, "$ x\n--- the page says\n  a\n> b\n--- it wrote\n  a\n  c\n");
    }
}
