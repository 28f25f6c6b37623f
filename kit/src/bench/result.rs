//! What came out: as a table for the terminal, as a table for the book, and as data.

use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use super::chart::{self, Bar, Labels};
use super::memory::Memory;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Vec<Memory>,
}

/// Where and when: a figure without its machine is none.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
}

/// One contestant in one case. Times are milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) who: &'static str,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    pub(crate) rounds: usize,
}

impl Row {
    pub(crate) fn new(case: &'static str, who: &'static str, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |position: usize| samples.get(position).copied().unwrap_or(f64::NAN);
        let middle = samples.len() / 2;
        let median = if samples.len().is_multiple_of(2) {
            (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
        } else {
            at(middle)
        };
        let max = at(samples.len().wrapping_sub(1));
        Self { case, who, min: at(0), median, max, rounds: samples.len() }
    }
}

impl Report {
    /// The names of the cases, in their order.
    pub(crate) fn cases(&self) -> Vec<&'static str> {
        let mut cases: Vec<_> = self.rows.iter().map(|row| row.case).collect();
        cases.dedup();
        cases
    }

    /// How many times as long as the floor, which is the first row of a case. Of the shortest times: those are what a program
    /// needs, and what is above is what the machine did besides.
    pub(crate) fn ratio(&self, row: &Row) -> f64 {
        let floor = self.rows.iter().find(|other| other.case == row.case);
        floor.map_or(f64::NAN, |floor| row.min / floor.min)
    }

    /// For the terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        for case in self.cases() {
            let _ =
                write!(text, "\n{case:<32}{:>9}{:>9}{:>9}{:>11}\n", "min ms", "median", "max", "to floor");
            for row in self.rows.iter().filter(|row| row.case == case) {
                let _ = writeln!(
                    text,
                    "  {:<30}{:>9.2}{:>9.2}{:>9.2}{:>10.2}x",
                    row.who,
                    row.min,
                    row.median,
                    row.max,
                    self.ratio(row)
                );
            }
        }
        let _ = write!(text, "\n{:<32}{:>9}{:>20}\n", "memory", "peak KiB", "while it runs KiB");
        for memory in &self.memory {
            let _ = writeln!(text, "  {:<30}{:>9}{:>20}", memory.who, memory.peak, memory.resident);
        }
        text
    }

    /// The times as bars.
    pub(crate) fn chart(&self) -> String {
        let bar = |row: &Row| Bar { case: row.case, who: row.who, value: row.min, digits: 1 };
        chart::svg(
            &self.rows.iter().map(bar).collect::<Vec<_>>(),
            &self.machine.line(),
            &Labels {
                title: "How long a container takes, from nothing to its program and back",
                description: "For each case a bar for each runtime, the shorter the faster, the first being the floor: a C program of the system calls alone. A dashed line marks twice the floor. The table below has the numbers.",
                heading: "shortest of all rounds, milliseconds; dashed: twice the floor",
                limit: 2.0,
            },
        )
    }

    /// For the book: the shortest times, with how many times the floor that is.
    pub(crate) fn markdown(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| row.case != "exec") {
            if !names.contains(&row.who) {
                names.push(row.who);
            }
        }
        let mut text = format!("*{}*\n\n| shortest, milliseconds |", self.machine.line());
        names.iter().for_each(|name| text += &format!(" {name} |"));
        text += "\n|---|";
        text += &"--:|".repeat(names.len());
        text.push('\n');
        for case in self.cases() {
            let _ = write!(text, "| {case} |");
            for (at, name) in names.iter().enumerate() {
                // The floor has no exec: fork and exec, without a container, takes its column.
                let row = self.rows.iter().filter(|row| row.case == case);
                let row =
                    row.enumerate().find(|(position, row)| row.who == *name || at == 0 && *position == 0);
                text += &match row {
                    Some((0, row)) => format!(" {:.1} |", row.min),
                    Some((_, row)) => format!(" {:.1} ({:.1}×) |", row.min, self.ratio(row)),
                    None => " – |".to_owned(),
                };
            }
            text.push('\n');
        }
        for (label, value) in [
            ("peak memory, MiB", (|memory| memory.peak) as fn(&Memory) -> u64),
            ("memory beside a running container, MiB", |memory| memory.resident),
        ] {
            let _ = write!(text, "| {label} |");
            for name in &names {
                let memory = self.memory.iter().find(|memory| memory.who == *name);
                text += &memory
                    .map_or_else(|| " – |".to_owned(), |memory| format!(" {} |", mebibytes(value(memory))));
            }
            text.push('\n');
        }
        text
    }
}

fn mebibytes(kibibytes: u64) -> String {
    let tenths = (kibibytes * 10 + 512) / 1024;
    format!("{}.{}", tenths / 10, tenths % 10)
}

impl Machine {
    pub(crate) fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            date: date(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        format!("{}; Linux {}; {} × {}", self.date, self.kernel, self.processors, self.processor)
    }
}

/// Today in UTC, from the days since 1970 (Howard Hinnant's civil_from_days).
fn date() -> String {
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn report() -> Report {
        let machine = Machine {
            date: "2026-01-02".into(),
            kernel: "6.18".into(),
            processor: "x".into(),
            processors: 2,
        };
        let rows = vec![
            Row::new("plain", "floor", vec![2.0, 1.0, 3.0]),
            Row::new("plain", "sampan-runtime", vec![4.0, 3.0]),
            Row::new("exec", "fork and exec", vec![1.0]),
            Row::new("exec", "sampan-runtime", vec![3.0]),
        ];
        let memory = vec![Memory { who: "floor", peak: 1024, resident: 100 }];
        Report { machine, rows, memory }
    }

    #[test]
    fn ratios_are_of_the_shortest_times() {
        let report = report();
        assert_eq!((report.rows[0].min, report.rows[0].median, report.rows[0].max), (1.0, 2.0, 3.0));
        assert_eq!(report.rows[1].median, 3.5);
        assert_eq!(report.ratio(&report.rows[1]), 3.0);
    }

    #[test]
    fn the_books_table_has_a_column_a_contestant() {
        let expected = "*2026-01-02; Linux 6.18; 2 × x*\n\n| shortest, milliseconds | floor | sampan-runtime |\n|---|--:|--:|\n\
            | plain | 1.0 | 3.0 (3.0×) |\n| exec | 1.0 | 3.0 (3.0×) |\n| peak memory, MiB | 1.0 | – |\n\
            | memory beside a running container, MiB | 0.1 | – |\n";
        assert_eq!(report().markdown(), expected);
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }
}
