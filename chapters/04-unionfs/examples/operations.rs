//! Show where a file lies before and after each operation, while a container runs: `04-operations [LAYER]...`.
//!
//! The container is `04-unionfs` over the layers (default: `target/kit/rootfs`), with a shell that waits for orders. After each
//! order this program looks from the host's side at the upper directory and at the layers. It believes nobody: a name lies where
//! the directories say.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use unionfs::{Place, locate};

/// What is done, to which file, and in the shell's words.
const OPERATIONS: [(&str, &str, &str); 9] = [
    ("add", "new", "echo text >/new"),
    ("read", "base/read", "cat /base/read"),
    ("open for writing", "base/open", ": >>/base/open"),
    ("modify one byte", "base/modify", "printf x >>/base/modify"),
    ("chmod", "base/chmod", "chmod 600 /base/chmod"),
    ("delete", "base/delete", "rm /base/delete"),
    ("delete, add again", "base/again", "rm /base/again; echo new >/base/again"),
    ("delete a folder", "folder", "rm -r /folder"),
    ("delete what was added", "new", "rm /new"),
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let scratch = tempfile::Builder::new().prefix(&format!("sampan-{}-", std::process::id())).tempdir()?;
    let mut layers: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    if layers.is_empty() {
        layers.push("target/kit/rootfs".into());
    }
    layers.push(base(scratch.path())?);
    let upper = scratch.path().join("upper");
    let mut shell = Shell::start(&layers, &upper)?;
    // Rootless, the host's side of the overlay's notes can be read by everybody: they are user. attributes.
    let look = |file: &str| -> Result<String> {
        let place = locate(Path::new(file), &upper, true, &layers)?;
        Ok(match place {
            Place::Upper => format!("upper{}", size(&upper.join(file))),
            Place::Layer(number) => format!("layer {number}{}", size(&layers[number].join(file))),
            Place::Hidden => whiteout(&upper.join(file)),
            Place::Nowhere => "nowhere".to_owned(),
        })
    };
    println!("{:<22} {:<13} {:<23} after", "operation", "file", "before");
    for (operation, file, order) in OPERATIONS {
        let before = look(file)?;
        shell.order(order)?;
        println!("{operation:<22} /{file:<12} {before:<23} {}", look(file)?);
    }
    shell.end()?;
    Ok(scratch.close()?)
}

/// A layer with a file for each operation, the last one on the stack.
fn base(scratch: &Path) -> Result<PathBuf> {
    let layer = scratch.join("layer");
    fs::create_dir_all(layer.join("base"))?;
    fs::create_dir_all(layer.join("folder"))?;
    fs::write(layer.join("folder/file"), "text")?;
    for file in ["read", "open", "modify", "chmod", "delete", "again"] {
        fs::write(layer.join("base").join(file), vec![b'.'; 100_000])?;
    }
    Ok(layer)
}

fn size(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => format!(", {} bytes", about.size()),
        _ => String::new(),
    }
}

fn whiteout(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Ok(about) if about.file_type().is_char_device() => {
            format!("upper: whiteout c {} {}", about.rdev() >> 8, about.rdev() & 0xff)
        }
        _ => "hidden".to_owned(),
    }
}

/// A shell in the container.
struct Shell {
    container: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    fn start(layers: &[PathBuf], upper: &Path) -> Result<Self> {
        let mut command = Command::new(binary()?);
        for layer in layers {
            command.arg("--layer").arg(layer);
        }
        command.arg("--upper").arg(upper).args(["--", "/bin/sh"]);
        let mut container = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = container.stdin.take();
        let answers = BufReader::new(container.stdout.take().ok_or("no pipe")?);
        let mut shell = Self { container, orders, answers };
        shell.order(":")?;
        Ok(shell)
    }

    /// Comes back when it is done.
    fn order(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().ok_or("the shell is gone")?;
        writeln!(orders, "( {order}; ) >/dev/null; echo done $?")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim() {
            "done 0" => Ok(()),
            other => Err(format!("{order}: {other:?}").into()),
        }
    }

    fn end(mut self) -> Result<()> {
        drop(self.orders.take());
        let status = self.container.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the container ended with {status}").into()) }
    }
}

/// `04-unionfs` as it was built with this program, or as it is in the `PATH`.
fn binary() -> Result<PathBuf> {
    let this = fs::canonicalize(env::current_exe()?)?;
    let beside = this.ancestors().skip(1).take(2).map(|folder| folder.join("04-unionfs"));
    Ok(beside.into_iter().find(|path| path.is_file()).unwrap_or_else(|| "04-unionfs".into()))
}
