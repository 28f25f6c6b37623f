//! `config.json` as nobody would write it, given to the real program: it may refuse it, or run it; it may not panic, hang, or leave
//! half a container.
//!
//! A good configuration is changed in a few places and run, again and again for a while. The changes come from a generator with a
//! seed: the same for everybody, so that nobody meets what others have not, or another in `SAMPAN_FUZZ_SEED`, to look further or to do
//! again what was told when something was wrong. Where the container's cgroup lies is not changed, nor what `root.path` could lead
//! to: the machine is somebody's.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::{Bundle, id};

pub(super) fn tests() -> Vec<Test> {
    const FUZZ: &[Need] = &[Need::Root, Need::Rootfs, Need::Patience];
    vec![
        Test { name: "runtime::a_changed_configuration_leaves_nothing", needs: FUZZ, run: changed },
        Test { name: "runtime::what_is_no_configuration_leaves_nothing", needs: FUZZ, run: nonsense },
    ]
}

const TIME: Duration = Duration::from_secs(15);
const SEED: u64 = 4711;
/// What no configuration may make the runtime take.
const HANG: Duration = Duration::from_secs(60);

/// Pseudo-random numbers (xorshift64): the same for the same seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("SAMPAN_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
        Self(given.unwrap_or(SEED) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn value(&mut self, depth: usize) -> Value {
        let texts = [
            "",
            "x",
            "..",
            "../x",
            "a\0b",
            "a b\n",
            "/sampan-is-not-there/x",
            "/proc/self/fd/3",
            "/dev/null",
            "/tmp",
            "rbind",
            "ro",
            "rshared",
            "idmap",
            "tmpcopyup",
            "remount",
            "tmpfs",
            "proc",
            "overlay",
            "bind",
            "CAP_SYS_ADMIN",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_KILL",
            "user",
            "time",
            "pid",
            "RLIMIT_NOFILE",
            "0-7",
            "\u{1f6f6}",
        ];
        let numbers = [
            json!(0),
            json!(1),
            json!(-1),
            json!(7),
            json!(65536),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(0.5),
        ];
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => numbers[self.below(numbers.len())].clone(),
            3 => json!("x".repeat(self.below(3) * 4000)),
            4 => json!(texts[self.below(texts.len())]),
            5 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let names = ["type", "path", "source", "destination", "options", "limit", "x"];
                let pair = |random: &mut Self| {
                    (names[random.below(names.len())].to_owned(), random.value(depth - 1))
                };
                (0..self.below(4)).map(|_| pair(self)).collect()
            }
        }
    }

    /// Changes one value somewhere in it.
    fn change(&mut self, config: &mut Value) {
        let mut all = Vec::new();
        pointers(config, "", &mut all);
        let at = all[self.below(all.len())].clone();
        let (parent, name) = at.rsplit_once('/').unwrap_or_default();
        match (self.below(4), config.pointer_mut(parent)) {
            (0, Some(Value::Object(map))) => drop(map.remove(name)),
            (0, Some(Value::Array(list))) => drop(list.pop()),
            (1, Some(Value::Array(list))) => list.extend(list.first().cloned()),
            _ => {
                let with = self.value(2);
                config.pointer_mut(&at).into_iter().for_each(|value| *value = with.clone());
            }
        }
    }
}

/// Where something may be changed.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    if ["/root", "/linux/cgroupsPath", "/hooks"].contains(&at) {
        return;
    }
    // Not a whole section, or nothing would be left to be changed.
    if at.matches('/').count() > 1 {
        all.push(at.to_owned());
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                pointers(value, &format!("{at}/{name}"), all);
            }
        }
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(number, value)| pointers(value, &format!("{at}/{number}"), all));
        }
        _ => {}
    }
}

/// Runs what the bundle holds, and looks whether anything is wrong with how it ended, or with what is left.
///
/// Under another filter the program itself may die: of a call that it needs, and even of the one that would end it.
fn run(bundle: &Bundle<'_>, words: &[&str], other_filter: bool) -> Result<i32, String> {
    let output = bundle.cmd(words).limit(HANG).run().map_err(|error| error.to_string())?;
    if output.stderr.contains("panicked")
        || [101, 134].contains(&output.code)
        || output.code == 139 && !other_filter
    {
        return Err(output.to_string());
    }
    if words.first() == Some(&"create") && output.code == 0 {
        let deleted = bundle.call(&["delete", "--force", "c"]).map_err(|error| error.to_string())?;
        if deleted.code != 0 {
            return Err(deleted.to_string());
        }
    }
    let left = bundle.state.join(id("c"));
    if left.exists() {
        return Err(format!("{} is left: {output}", left.display()));
    }
    Ok(output.code)
}

/// Cgroups that carry the container's name.
fn cgroups() -> Vec<String> {
    let name = id("c");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places =
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let found = places.filter(|place| fs::metadata(format!("{place}/sampan/{name}")).is_ok());
    found.map(str::to_owned).collect()
}

fn again(
    host: &Host,
    mut next: impl FnMut(&mut Random, &mut Value) -> Option<String>,
) -> Result<[u32; 2], Box<dyn std::error::Error>> {
    let bundle = Bundle::new(host, &["/bin/true"], |_| {})?;
    let good: Value = serde_json::from_slice(&fs::read(bundle.config())?)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut random = Random::new();
    let (begin, mut ran) = (Instant::now(), [0, 0]);
    while begin.elapsed() < TIME {
        let seed = random.0;
        let mut config = good.clone();
        let text = next(&mut random, &mut config).unwrap_or_else(|| config.to_string());
        fs::write(bundle.config(), &text)?;
        let words: &[&str] = if random.below(3) == 0 { &["create", "c"] } else { &["run", "c"] };
        let filter = |config: &Value| config["linux"]["seccomp"].clone();
        let other_filter =
            serde_json::from_str(&text).is_ok_and(|config: Value| filter(&config) != filter(&good));
        let outcome = run(&bundle, words, other_filter).and_then(|code| {
            let children = tests::ask::descendants(i32::try_from(std::process::id()).unwrap_or(0));
            match (cgroups(), children) {
                (cgroups, children) if cgroups.is_empty() && children.is_empty() => Ok(code),
                left => Err(format!("left: {left:?}")),
            }
        });
        match outcome {
            Ok(0) => ran[0] += 1,
            Ok(_) => ran[1] += 1,
            Err(wrong) => return Err(format!("seed {seed}, {words:?}\n{text}\n{wrong}").into()),
        }
    }
    assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, mounts, "a mount is left");
    Ok(ran)
}

fn changed(host: &Host) -> Outcome {
    let [ran, refused] = again(host, |random, config| {
        for _ in 0..=random.below(3) {
            random.change(config);
        }
        None
    })?;
    assert!(ran > 0 && refused > 0, "{ran} ran, {refused} were refused: it shows nothing");
    Ok(())
}

/// Cut short, with a byte changed, or any JSON at all.
fn nonsense(host: &Host) -> Outcome {
    let [_, refused] = again(host, |random, config| {
        let mut text = config.to_string();
        match random.below(3) {
            0 => text.truncate(
                (0..=random.below(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0),
            ),
            1 => text.insert(random.below(2) * (text.len() - 1), ['{', '"', ',', '\0'][random.below(4)]),
            _ => text = random.value(4).to_string(),
        }
        Some(text)
    })?;
    assert!(refused > 10, "{refused}");
    Ok(())
}
