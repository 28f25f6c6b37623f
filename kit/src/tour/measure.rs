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
#[derive(Clone)]
struct Program {
    name: &'static str,
    /// Its arguments before the root file system, with all limits.
    options: Vec<String>,
    /// The same for a user whose limits nobody enforces.
    fewer: Vec<String>,
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
    let limits = format!("--memory 64m --cpus 0.5 --pids {PIDS}");
    let device = whole_disk(folder);
    let extra = folder.join("extra");
    fs::create_dir(&extra).with_context(|| format!("make {}", extra.display()))?;
    let first = Program::new("01-chroot", "", unpack(folder, "one")?);
    let second = Program::new("02-namespaces", "", unpack(folder, "two")?);
    let with_io = match &device {
        Some(device) => format!("{limits} --io-max {device}:wbps={WRITE_RATE}"),
        None => limits.clone(),
    };
    let mut third = Program::new("03-cgroups", &with_io, unpack(folder, "three")?);
    third.io = device.is_some();
    let mut fourth = Program::new("04-unionfs", &limits, unpack(folder, "four")?);
    fourth.rootfs.insert(0, "--layer".to_owned());
    let with_port = format!("{limits} -p {PUBLISHED}:80");
    let mut fifth = Program::new("05-network", &with_port, unpack(folder, "five")?);
    fifth.rootfs.splice(0..0, ["--layer".to_owned(), extra.display().to_string()]);
    fifth.network = true;
    Ok(vec![first, second, third, fourth, fifth, engine(folder, device.as_deref())?])
}

fn engine(folder: &Path, device: Option<&str>) -> Result<Program> {
    import(folder)?;
    let layers = fs::read_dir(folder.join("data/layers/sha256")).context("the engine's layers")?;
    let layer = layers.flatten().next().context("the image has no layer")?.path();
    let mut options = format!("run --rm -i --memory 64m --cpus 0.5 --pids-limit {PIDS} -p {PUBLISHED}:80");
    // The engine takes a device as Docker does, by its path.
    let device = device.and_then(device_node);
    if let Some(path) = &device {
        options.push_str(&format!(" --device-write-bps {path}:{WRITE_RATE}"));
    }
    let mut engine = Program::new("sampan", &options, layer);
    engine.fewer = words("run --rm -i");
    engine.rootfs = vec!["tour".to_owned()];
    engine.network = true;
    engine.io = device.is_some();
    Ok(engine)
}

impl Program {
    fn new(name: &'static str, options: &str, original: PathBuf) -> Self {
        let rootfs = vec![original.display().to_string()];
        let options = words(options);
        Self {
            name,
            fewer: vec![],
            limits: !options.is_empty(),
            io: false,
            network: false,
            rootfs,
            options,
            original,
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A root file system of its own for a container: it will be changed.
fn unpack(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut unpack = command("01-chroot", folder);
    unpack.arg("--tar").arg(place::kit().join("busybox.tar")).arg(&path).arg("/bin/true");
    succeed(&mut unpack)?;
    Ok(path)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(anyhow!(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
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
    succeed(command("sampan", folder).arg("import").arg(place::kit().join("busybox.tar")).arg("tour"))?;
    // The image's layer is unpacked with its first container.
    succeed(command("sampan", folder).args(["run", "--rm", "--network", "none", "tour", "/bin/true"]))
}

fn column(program: &Program, folder: &Path, world: Option<&mut World>) -> Column {
    let mut notes = Vec::new();
    let cells = measure(program, &program.options, folder, world).or_else(|error| {
        if geteuid().is_root() || program.options.is_empty() {
            return Err(error);
        }
        notes.push(format!("without limits and published ports, for with them: {}", first_line(&error)));
        let without = Program { limits: false, io: false, network: false, ..program.clone() };
        measure(&without, &without.fewer, folder, None)
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

/// The node in /dev of a device that is named by its numbers.
fn device_node(numbers: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/dev/block/{numbers}/uevent")).ok()?;
    let path = format!("/dev/{}", text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?);
    Path::new(&path).exists().then_some(path)
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
