//! The library against the real kernel: mounts, copy-up, refusals, and layers there and back.
//!
//! Moves into a private mount namespace first, and, run by an ordinary user, into a user namespace before it, where everything
//! holds with `userxattr`. Nothing is mounted where anybody else could see it.

mod mounts;
mod place;
mod refusals;
mod round_trip;
mod snapshot;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use place::Place;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Case = (&'static str, fn(&Place) -> Outcome);

fn main() -> ExitCode {
    // libtest-mimic knows one name alone; with more, those whose names have one of them are run.
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().partition(|word| word.starts_with('-'));
    let one = names.len() < 3;
    let mut arguments =
        if one { Arguments::from_args() } else { Arguments::from_iter(names.iter().take(1).chain(&options)) };
    // A filter on system calls and the working directory are the whole program's.
    arguments.test_threads = Some(1);
    let refused = if arguments.list { None } else { place::enter().err().map(|error| error.to_string()) };
    let cases = [mounts::CASES, refusals::CASES, round_trip::CASES].concat();
    let asked = |name: &str| one || names.iter().any(|word| name.contains(word.as_str()));
    let cases = cases.into_iter().filter(|(name, _)| asked(name));
    let trials = cases.map(|(name, run)| match refused.clone() {
        Some(reason) => Trial::ignorable_test(name, move || {
            Ok(libtest_mimic::Completion::ignored_with(format!("no namespace of our own: {reason}")))
        }),
        None => Trial::test(name, move || {
            let outcome = Place::new().and_then(|place| run(&place));
            outcome.map_err(|error| chain(error.as_ref()).into())
        }),
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
