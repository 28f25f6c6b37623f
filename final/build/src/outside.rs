//! RUN, for an ordinary user's build.
//!
//! The build itself is root of a user namespace with all ids of the user, so that files have the owners that they should have. From
//! there it could give a container a part of what it has; the user has more: a network, cgroups, ids. So the process outside, which
//! waits for the build anyway, runs the commands, and is asked over a socket: one JSON text for each question, one for each answer.

use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use sampan_engine::{Engine, Error};
use serde::Deserialize as _;

use crate::runner::{Ran, Runner, Task, command, kept};

/// The build's end of the socket.
#[derive(Debug)]
pub struct Outside(pub UnixStream);

type Question = (Vec<PathBuf>, sampan_engine::build::Command);
/// A report with its exit status where the command could not be started.
type Answer = Result<sampan_engine::build::Ran, (String, u8)>;

impl Outside {
    fn ask(&self, question: &Question) -> std::io::Result<Answer> {
        (&self.0).write_all(&serde_json::to_vec(question)?)?;
        Ok(Answer::deserialize(&mut serde_json::Deserializer::from_reader(&self.0))?)
    }
}

impl Runner for Outside {
    fn run(&self, layers: Vec<PathBuf>, task: &Task) -> Result<Ran, crate::Error> {
        let failed = |error| crate::Error::Run(Box::new(error));
        match self.ask(&(layers, command(task))) {
            Ok(Ok(ran)) => Ok(kept(ran)),
            Ok(Err((message, exit_code))) => Err(failed(Error::Start { message, exit_code })),
            Err(error) => Err(failed(Error::Invalid(format!("the process that runs commands: {error}")))),
        }
    }
}

/// Runs what the build asks for, until it has ended.
pub fn answer(engine: &Engine, socket: &UnixStream) {
    let questions = serde_json::Deserializer::from_reader(BufReader::new(socket)).into_iter::<Question>();
    // What cannot be read is of a build that was killed.
    for (layers, command) in questions.map_while(Result::ok) {
        let answer: Answer = engine
            .run_build_step(layers, &command)
            .map_err(|error| (step::report(&error, &sampan_engine::hints()), error.exit_code()));
        let told = serde_json::to_vec(&answer).is_ok_and(|text| (&*socket).write_all(&text).is_ok());
        if !told {
            // Nobody takes the layer any more; what cannot be removed the next build sweeps.
            let _ = answer.map(sampan_engine::build::Ran::remove);
            return;
        }
    }
}
