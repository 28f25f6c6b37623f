//! A Dockerfile as data: every instruction with the place where it stands, and every mistake with its place and a remedy.
//!
//! In reading order: [`lines`] (comments, continuation, parser directives), [`words`] (what a word is), [`mod@parse`] (one
//! function for each kind of arguments), [`expand`] (variables), [`mistake`] (what an error looks like).
//!
//! The parser changes nothing in the words: quotes and variables are dealt with when the instruction is carried out, for only
//! then the variables are known.
//!
//! See the Dockerfile reference. Not covered: here-documents, and flags of `RUN`.

pub mod expand;
pub mod lines;
pub mod mistake;
mod names;
pub mod parse;
pub mod words;

pub use mistake::Mistake;
pub use parse::parse;

/// A piece of the source, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The character that continues a line and takes a meaning away: `\`, or what `# escape=` says.
    pub escape: char,
    /// The instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Where its first word stands.
    pub span: Span,
    /// The instruction on one line, as the step's line shows it.
    pub text: String,
    /// What it says.
    pub kind: Kind,
}

/// A word as it is written, with its quotes and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A command: for a shell, or as the arguments of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `RUN useradd guest`: a shell reads it, and is the process.
    Shell(String),
    /// `RUN ["useradd", "guest"]`: the program itself is the process.
    Exec(Vec<String>),
}

/// What COPY and ADD have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What is copied, at least one.
    pub sources: Vec<Word>,
    /// Where to.
    pub destination: Word,
    /// `--chown=user[:group]`.
    pub chown: Option<Word>,
    /// `--chmod=755`.
    pub chmod: Option<Word>,
    /// `--from=stage`, or an image.
    pub from: Option<Word>,
}

/// What HEALTHCHECK says; times in nanoseconds, 0 for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The check; none for `HEALTHCHECK NONE`.
    pub command: Option<Command>,
    /// From one check to the next.
    pub interval: u64,
    /// After which a check counts as failed.
    pub timeout: u64,
    /// In which failures do not count.
    pub start_period: u64,
    /// From one check to the next within the start period.
    pub start_interval: u64,
    /// Failures in a row.
    pub retries: u64,
}

/// The instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `FROM image [AS name]`: begins a build stage.
    From {
        /// The image, an earlier stage, or `scratch`.
        image: Word,
        /// The stage's name, in lower case.
        name: Option<String>,
    },
    /// Runs a command, and keeps what it changes.
    Run(Command),
    /// The command of containers; of several the last counts.
    Cmd(Command),
    /// The program that the command is given to.
    Entrypoint(Command),
    /// Files from the build context.
    Copy(Transfer),
    /// The same, and archives are unpacked.
    Add(Transfer),
    /// Variables of the environment.
    Env(Vec<(Word, Word)>),
    /// Labels.
    Label(Vec<(Word, Word)>),
    /// The working directory, made where it is missing.
    Workdir(Word),
    /// The user.
    User(Word),
    /// Ports; a declaration that opens nothing.
    Expose(Vec<Word>),
    /// Directories that live outside the image.
    Volume(Vec<Word>),
    /// The author, in the old form.
    Maintainer(String),
    /// Variables of the build, each with its default.
    Arg(Vec<(String, Option<Word>)>),
    /// The shell of the shell form.
    Shell(Vec<String>),
    /// The signal that stops a container.
    StopSignal(Word),
    /// How a container's health is checked.
    Healthcheck(Health),
    /// An instruction for whoever builds on this image.
    OnBuild(String),
}
