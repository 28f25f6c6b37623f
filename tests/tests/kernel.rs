//! All black-box tests against the real kernel. See the harness in `tests/src`.

mod attackers;
mod build;
mod ch01;
mod ch02;
mod ch03;
mod ch04;
mod ch05;
mod engine;
mod image;
mod kills;
mod kit;
mod peers;
mod runtime;
mod transcripts;

use std::process::ExitCode;

use tests::Case;

fn main() -> ExitCode {
    let files = [
        ch01::tests(),
        ch02::tests(),
        ch03::tests(),
        ch04::tests(),
        ch05::tests(),
        runtime::tests(),
        image::tests(),
        engine::tests(),
        build::tests(),
        kit::tests(),
        peers::tests(),
        kills::tests(),
    ];
    let mut cases: Vec<Case> = files.into_iter().flatten().map(Case::from).collect();
    cases.extend(attackers::cases());
    cases.extend(transcripts::cases());
    tests::main(cases)
}
