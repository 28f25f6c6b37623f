//! `sampan login`, `sampan logout`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use sampan_image::registry::{Credentials, Login as Who};

const DOCKER: &str = "docker.io";
const CTRL_C: u8 = 3;

/// Log in to a registry
#[derive(Args)]
#[command(
    after_help = "Example:\n  echo secret | sampan login -u student --password-stdin registry.example:5000"
)]
pub(crate) struct Login {
    /// The user's name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The password; whoever lists this machine's processes sees it
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// Tell each request, and why it is made, on standard error
    #[arg(long)]
    explain: bool,
    /// The registry, HOST[:PORT] [default: docker.io]
    server: Option<String>,
}

/// Forget a login
#[derive(Args)]
#[command(after_help = "Example:\n  sampan logout registry.example:5000")]
pub(crate) struct Logout {
    /// The registry, HOST[:PORT] [default: docker.io]
    server: Option<String>,
}

impl Login {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let domain = domain(self.server.as_deref());
        if self.password_stdin && self.username.is_none() {
            bail!("--password-stdin needs --username: standard input is the password");
        }
        let user = match self.username {
            Some(user) => user,
            None => ask("Username: ")?,
        };
        let password = if self.password_stdin {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        } else if let Some(password) = self.password {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            password
        } else {
            ask_unseen("Password: ")?
        };
        if user.is_empty() || password.is_empty() {
            bail!("a name and a password are needed");
        }
        if self.explain {
            step::explain()?;
        }
        let registries = super::registries()?;
        let done = registries.login(domain, &Who::Password { user, password })?;
        if !done.by_helper
            && !done.is_token
            && let Some(path) = registries.credentials().path()
        {
            eprintln!(
                "WARNING! Your password is kept only encoded in {}; a credential helper keeps it better.",
                path.display()
            );
        }
        println!("Login Succeeded");
        Ok(ExitCode::SUCCESS)
    }
}

impl Logout {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let domain = domain(self.server.as_deref());
        if Credentials::of_this_user().forget(domain)? {
            println!("Removing login credentials for {domain}");
        } else {
            println!("Not logged in to {domain}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A server as it may be typed: a URL, or a name of Docker's own registry.
fn domain(server: Option<&str>) -> &str {
    let server = server.unwrap_or(DOCKER);
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => DOCKER,
        domain => domain,
    }
}

fn ask(prompt: &str) -> anyhow::Result<String> {
    eprint!("{prompt}");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// The same for a password, while the terminal shows nothing of what is typed. Ctrl-C ends the line meanwhile, and not us: whoever
/// gives up has a terminal that shows again what is typed.
fn ask_unseen(prompt: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask for the password at: give it with --password-stdin");
    }
    let before = tcgetattr(&stdin).context("cannot ask the terminal for its mode")?;
    let mut unseen = before.clone();
    unseen.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    unseen.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
    tcsetattr(&stdin, OptionalActions::Now, &unseen)
        .context("cannot keep the terminal from showing the password")?;
    eprint!("{prompt}");
    let typed = line();
    tcsetattr(&stdin, OptionalActions::Now, &before)
        .context("cannot set the terminal back: run `stty echo`")?;
    eprintln!();
    let typed = typed?;
    if typed.contains(&CTRL_C) {
        bail!("given up");
    }
    String::from_utf8(typed).context("the password is not UTF-8")
}

/// What is typed up to the end of the line, or Ctrl-C.
fn line() -> io::Result<Vec<u8>> {
    let (mut stdin, mut typed) = (io::stdin().lock(), Vec::new());
    loop {
        let piece = stdin.fill_buf()?;
        let count = piece.len();
        typed.extend_from_slice(piece);
        stdin.consume(count);
        if let Some(line) = typed.strip_suffix(b"\n") {
            return Ok(line.to_vec());
        }
        if count == 0 || typed.contains(&CTRL_C) {
            return Ok(typed);
        }
    }
}
