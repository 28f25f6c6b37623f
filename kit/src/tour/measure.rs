//! Both sides of each column: a container of each program, with limits where the program knows them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::unistd::geteuid;
use serde_json::Value;

use super::container::Session;
use super::judge::{ALLOCATED, Cell, Inside, Outside, PIDS, ROWS, SPAWNED, WRITE_RATE, WRITTEN};
use super::outside;
use super::world::{PORT, WORLD, World};
use crate::place;

/// The file that each container changes.
const CHANGED: &str = "etc/os-release";
const MARK: &str = "# changed by the probe";
const PUBLISHED: u16 = 8080;
const PROBE: &str = "/kit/probe";

/// One program's column.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// The cells in the order of the rows, or why there are none.
    pub(crate) cells: Result<Vec<Cell>, String>,
    pub(crate) notes: Vec<String>,
}

/// How a program is called.
struct Program {
    name: &'static str,
    /// Its arguments before the root file system.
    options: Vec<String>,
    /// The same for a user whose limits nobody enforces.
    fewer: Option<Vec<String>>,
    limits: bool,
    io: bool,
    network: bool,
    /// What stands for the root file system, and the folder that must stay as it was.
    rootfs: Vec<String>,
    original: PathBuf,
}

/// All columns, in the order of the chapters.
pub(crate) fn all(folder: &Path) -> Result<Vec<Column>> {
    let mut world = if geteuid().is_root() { Some(World::make()?) } else { None };
    let mut columns = Vec::new();
    for program in programs(folder)? {
        columns.push(column(&program, folder, world.as_mut()));
    }
    if let Some(world) = world {
        world.end()?;
    }
    Ok(columns)
}

fn programs(folder: &Path) -> Result<Vec<Program>> {
    let rootfs = |name: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        let mut unpack = command("01-chroot", folder);
        unpack.arg("--tar").arg(place::kit().join("busybox.tar")).arg(&path).arg("/bin/true");
        let output = unpack.output().context("unpack a root file system")?;
        if output.status.success() {
            Ok(path)
        } else {
            Err(anyhow!(String::from_utf8_lossy(&output.stderr).into_owned()))
        }
    };
    let text = |path: &Path| path.display().to_string();
    let limits = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let program = |name, options: Vec<String>, original: PathBuf| Program {
        name,
        fewer: None,
        limits: !options.is_empty(),
        io: false,
        network: false,
        rootfs: vec![text(&original)],
        options,
        original,
    };
    let common = format!("--memory 64m --cpus 0.5 --pids {PIDS}");
    let device = whole_disk(folder).map(|device| format!(" --io-max {device}:wbps={WRITE_RATE}"));
    let extra = folder.join("extra");
    fs::create_dir(&extra)?;
    import(folder)?;

    let first = program("01-chroot", vec![], rootfs("one")?);
    let second = program("02-namespaces", vec![], rootfs("two")?);
    let mut third = program(
        "03-cgroups",
        limits(&format!("{common}{}", device.clone().unwrap_or_default())),
        rootfs("three")?,
    );
    third.io = device.is_some();
    third.fewer = Some(vec![]);
    let mut fourth = program("04-unionfs", limits(&common), rootfs("four")?);
    fourth.rootfs = vec!["--layer".to_owned(), text(&fourth.original)];
    fourth.fewer = Some(vec![]);
    let mut fifth = program(
        "05-network",
        limits(&format!("{common} -p {PUBLISHED}:80 --layer {}", text(&extra))),
        rootfs("five")?,
    );
    fifth.network = true;
    fifth.fewer = Some(vec!["--layer".to_owned(), text(&extra)]);
    let layers = fs::read_dir(folder.join("data/layers/sha256")).context("the engine's layers")?;
    let layer = layers.flatten().next().context("the image has no layer")?.path();
    let mut engine = program(
        "sampan",
        limits(&format!("run --rm -i --memory 64m --cpus 0.5 --pids-limit {PIDS} -p {PUBLISHED}:80")),
        layer,
    );
    engine.rootfs = vec!["tour".to_owned()];
    engine.network = true;
    engine.fewer = Some(limits("run --rm -i"));
    Ok(vec![first, second, third, fourth, fifth, engine])
}

fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(place::kit().join("bin").join(name));
    command.env("TMPDIR", folder);
    if name == "sampan" {
        command.arg("--root").arg(folder.join("data")).arg("--run-root").arg(folder.join("run"));
    }
    command
}

fn import(folder: &Path) -> Result<()> {
    let output = command("sampan", folder)
        .arg("import")
        .arg(place::kit().join("busybox.tar"))
        .arg("tour")
        .output()
        .context("run sampan")?;
    if !output.status.success() {
        return Err(anyhow!(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    // The image's layer is unpacked with its first container.
    let first =
        command("sampan", folder).args(["run", "--rm", "--network", "none", "tour", "/bin/true"]).output()?;
    if first.status.success() {
        Ok(())
    } else {
        Err(anyhow!(String::from_utf8_lossy(&first.stderr).into_owned()))
    }
}

fn column(program: &Program, folder: &Path, world: Option<&mut World>) -> Column {
    let mut notes = Vec::new();
    let cells = measure(program, &program.options, folder, world).or_else(|error| match &program.fewer {
        Some(fewer) if !geteuid().is_root() => {
            notes.push(format!("without limits and published ports, for with them: {}", first_line(&error)));
            let without = Program {
                limits: false,
                io: false,
                network: false,
                rootfs: program.rootfs.clone(),
                options: vec![],
                fewer: None,
                original: program.original.clone(),
                ..*program
            };
            measure(&without, fewer, folder, None)
        }
        _ => Err(error),
    });
    Column { name: program.name, cells: cells.map_err(|error| format!("{error:#}")), notes }
}

fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines()
        .find(|line| line.starts_with("error: "))
        .or(text.lines().next())
        .unwrap_or_default()
        .to_owned()
}

fn measure(
    program: &Program,
    options: &[String],
    folder: &Path,
    world: Option<&mut World>,
) -> Result<Vec<Cell>> {
    let mut start = command(program.name, folder);
    start.args(options).args(&program.rootfs);
    let mut session = Session::start(start, PROBE)?;
    let host = outside::host();
    let outcome = look(program, &mut session, world);
    let ended = session.end();
    let (inside, outside) = outcome?;
    ended?;
    Ok(ROWS.iter().map(|(_, judge)| judge(&inside, &outside, &host)).collect())
}

fn look(program: &Program, session: &mut Session, world: Option<&mut World>) -> Result<(Inside, Outside)> {
    let mut inside = Inside { seen: serde_json::from_value(session.ask("report")?)?, ..Inside::default() };
    let mut outside = outside::process(session.pid);
    let is_true = |answer: &Value, name: &str| answer.get(name).and_then(Value::as_bool).unwrap_or(false);
    inside.changed = is_true(&session.ask(&format!("change /{CHANGED}"))?, "changed");
    let marked = |path: PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(MARK));
    outside.change_seen = marked(PathBuf::from(format!("/proc/{}/root/{CHANGED}", session.pid)));
    outside.original_changed = marked(program.original.join(CHANGED));
    inside.call_refused = is_true(&session.ask("syscall unshare")?, "refused");
    if program.limits {
        try_limits(program, session, &mut inside)?;
        outside::limits(session.pid, &mut outside);
    }
    if let Some(world) = world.filter(|_| program.network) {
        let answer = session.ask(&format!("connect {WORLD}:{PORT}"))?;
        inside.answer = answer.get("answer").and_then(Value::as_str).map(|text| text.trim().to_owned());
        if inside.answer.is_some() {
            outside.asked_from = world.asked_from()?;
        }
        inside.listening = session.ask("listen 80")?.get("listening").is_some();
        outside.published = world.ask(PUBLISHED)?;
    }
    Ok((inside, outside))
}

fn try_limits(program: &Program, session: &mut Session, inside: &mut Inside) -> Result<()> {
    let allocation = session.ask(&format!("allocate {ALLOCATED}"))?;
    inside.allocation = allocation.get("outcome").and_then(Value::as_str).map(str::to_owned);
    let spawned = session.ask(&format!("spawn {SPAWNED}"))?;
    inside.spawned =
        spawned.get("spawned").and_then(Value::as_u64).map(|count| (count, !spawned["error"].is_null()));
    inside.cores = session.ask("burn 600")?.get("cores").and_then(Value::as_f64);
    if program.io {
        let written = session.ask(&format!("write {WRITTEN} /kit/written"))?;
        inside.write = written.get("seconds").and_then(Value::as_f64);
    }
    Ok(())
}

/// The disk that a folder lies on, as `major:minor`: limits are a disk's, not a partition's. None for what is no disk.
fn whole_disk(folder: &Path) -> Option<String> {
    let device = fs::metadata(folder).ok()?.dev();
    let name = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let link = fs::canonicalize(format!("/sys/dev/block/{name}")).ok()?;
    if !link.join("partition").exists() {
        return Some(name);
    }
    fs::read_to_string(link.parent()?.join("dev")).ok().map(|text| text.trim().to_owned())
}
