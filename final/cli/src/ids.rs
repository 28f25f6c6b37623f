//! An ordinary user's images with the owners that their files have.
//!
//! Only root may give files to others, and so a command that unpacks layers, reads them whole or removes them goes on as root of a user
//! namespace with all ids that the user has: in a process that is made before there is a second thread. That tells what there is to
//! tell; this one ends as it does. Root's commands, and those of a user with one id alone, just run.

use std::fmt;
use std::process::ExitCode;

use namespaces::{Created, as_all_ids};
use sampan_engine::Engine;

/// An error that the other process has told.
#[derive(Debug)]
pub(crate) struct Told;

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see above")
    }
}

impl std::error::Error for Told {}

/// Does `work` where files get their owners, and ends as it ends.
pub(crate) fn with_all(
    engine: &Engine,
    work: impl FnOnce() -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    with_all_but(engine, work, Ok)
}

/// The same, and `meanwhile` in this process, where it must be released.
pub(crate) fn with_all_but(
    engine: &Engine,
    work: impl FnOnce() -> anyhow::Result<ExitCode>,
    meanwhile: impl FnOnce(Created) -> anyhow::Result<Created>,
) -> anyhow::Result<ExitCode> {
    let mut work = Some(work);
    let mut run = || work.take().map_or(Ok(ExitCode::SUCCESS), |work| work());
    match as_all_ids(|| number(crate::end(run(), false)))? {
        Some(created) => {
            // With what is its own: its end of a socket.
            drop(work);
            Ok(ExitCode::from(meanwhile(created)?.proceed()?.wait()?.code()))
        }
        None => {
            let outcome = run();
            if engine.images().owners_left_out() {
                eprintln!(
                    "note: all files of the image belong to root inside: for their own owners this user needs ids in /etc/subuid and /etc/subgid, and newuidmap (`cargo kit doctor`)"
                );
            }
            outcome
        }
    }
}

/// It does not tell its number.
fn number(code: ExitCode) -> u8 {
    (0..=u8::MAX).find(|number| ExitCode::from(*number) == code).unwrap_or(u8::MAX)
}
