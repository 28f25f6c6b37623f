//! How a binary ends when something failed: what, why, and what to do about it, printed once.
//!
//! ```text
//! error: mount overlay on /run/sampan/c1/merged
//! caused by: EINVAL: invalid argument
//! hint: upperdir and workdir must be on one filesystem; see the book, 04-unionfs.html#layers
//! ```

use std::error::Error;
use std::fmt::Write as _;

use nix::errno::Errno;

use crate::StepError;

/// What to do when a certain step fails in a certain way. Each crate has a table of these in its `hints.rs`.
#[derive(Debug)]
pub struct Hint {
    /// How the failed step begins: the call's name, and the first operands where the name does not suffice (`"mount proc"`).
    pub step: &'static str,
    /// What the kernel answered.
    pub errno: Errno,
    /// The remedy, as a sentence without a full stop.
    pub advice: &'static str,
    /// The page of the book that explains it, with its anchor.
    pub page: &'static str,
}

/// The text that a binary prints on standard error before it exits: the chain of errors and, where one of the `tables` knows
/// the failed step, a hint. The first matching hint of the first table wins.
pub fn report(error: &(dyn Error + 'static), tables: &[&[Hint]]) -> String {
    let mut text = format!("error: {error}\n");
    let mut said = error.to_string();
    let mut failed = None;
    let mut next = Some(error);
    while let Some(link) = next {
        failed = failed.or(link.downcast_ref::<StepError>());
        // A wrapper that says no more than what it wraps is left out.
        if link.to_string() != said {
            said = link.to_string();
            let _ = writeln!(text, "caused by: {said}");
        }
        next = link.source();
    }
    if let Some(hint) = failed.and_then(|step| find(step, tables)) {
        let _ = writeln!(text, "hint: {}; see the book, {}", hint.advice, hint.page);
    }
    text
}

fn find<'a>(failed: &StepError, tables: &[&'a [Hint]]) -> Option<&'a Hint> {
    let text = failed.to_string();
    tables
        .iter()
        .copied()
        .flatten()
        .find(|hint| Some(hint.errno) == failed.errno() && starts_with_words(&text, hint.step))
}

/// `"mount"` begins `mount proc on /proc`, but not `mount_setattr /`; `"write /proc/sys"` begins what lies under that path.
fn starts_with_words(text: &str, start: &str) -> bool {
    text.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Hint] = &[
        Hint { step: "mount proc", errno: Errno::EPERM, advice: "unmask /proc", page: "02.html#proc" },
        Hint { step: "mount", errno: Errno::EPERM, advice: "become root", page: "02.html" },
        Hint { step: "write /proc/sys", errno: Errno::EPERM, advice: "be root", page: "05.html" },
    ];

    fn failed(call: &'static str, operands: &str) -> StepError {
        StepError::new(call, operands, Errno::EPERM)
    }

    #[test]
    fn the_most_specific_hint_stands_first_and_wins() {
        assert_eq!(
            report(&failed("mount", "proc on /proc"), &[TABLE]),
            "error: mount proc on /proc\ncaused by: EPERM: operation not permitted\nhint: unmask /proc; see the book, 02.html#proc\n"
        );
        assert!(report(&failed("mount", "tmpfs on /tmp"), &[TABLE]).contains("become root"));
    }

    #[test]
    fn a_call_that_only_shares_the_first_letters_gets_no_hint() {
        assert!(!report(&failed("mount_setattr", "/"), &[TABLE]).contains("hint"));
        assert!(!report(&failed("write", "/proc/system"), &[TABLE]).contains("hint"));
        assert!(report(&failed("write", "/proc/sys/net/x"), &[TABLE]).contains("hint: be root"));
    }
}
