//! What came out: for the terminal, for the book, and as data.

use std::fmt::Write as _;

use serde::Serialize;

use super::Taken;
use super::tool::FLOOR;
use crate::bench::chart::{self, Labels};
use crate::bench::result::{Machine, Row as Times};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

/// One tool in one case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) who: &'static str,
    /// Seconds: the shortest, and the one in the middle.
    pub(crate) min: f64,
    pub(crate) median: f64,
    /// Of the processor, the least of all rounds.
    pub(crate) processor: f64,
    /// 10^6 bytes a second in the shortest run.
    pub(crate) rate: f64,
    /// KiB, the most of all rounds.
    pub(crate) peak: u64,
}

impl Row {
    pub(crate) fn new(case: &str, who: &'static str, bytes: u64, taken: &[Taken]) -> Self {
        let times = Times::new("", who, taken.iter().map(|taken| taken.seconds).collect());
        Self {
            case: case.to_owned(),
            who,
            min: times.min,
            median: times.median,
            processor: taken.iter().map(|taken| taken.processor).fold(f64::INFINITY, f64::min),
            rate: bytes as f64 / 1e6 / times.min,
            peak: taken.iter().map(|taken| taken.peak).max().unwrap_or(0),
        }
    }
}

impl Report {
    fn cases(&self) -> Vec<&str> {
        let mut cases: Vec<_> = self.rows.iter().map(|row| row.case.as_str()).collect();
        cases.dedup();
        cases
    }

    fn of<'a>(&'a self, case: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.case == case)
    }

    fn ratio(&self, row: &Row) -> f64 {
        let floor = self.of(&row.case).find(|row| row.who == FLOOR);
        floor.map_or(f64::NAN, |floor| row.min / floor.min)
    }

    /// For the terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        for case in self.cases() {
            let _ = write!(
                text,
                "\n{case:<20}{:>9}{:>9}{:>11}{:>9}{:>11}{:>11}\n",
                "min s", "median", "processor", "MB/s", "to floor", "peak MiB"
            );
            for row in self.of(case) {
                let _ = writeln!(
                    text,
                    "  {:<18}{:>9.2}{:>9.2}{:>11.2}{:>9.0}{:>10.2}x{:>11.1}",
                    row.who,
                    row.min,
                    row.median,
                    row.processor,
                    row.rate,
                    self.ratio(row),
                    row.peak as f64 / 1024.0
                );
            }
        }
        text
    }

    /// For the book: MB/s, with how many times as long as the floor; then the most memory of all cases.
    pub(crate) fn markdown(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.who) {
                names.push(row.who);
            }
        }
        let mut text = format!("*{}*\n\n| MB/s |", self.machine.line());
        names.iter().for_each(|name| text += &format!(" {name} |"));
        text += "\n|---|";
        text += &"--:|".repeat(names.len());
        text.push('\n');
        for case in self.cases() {
            let _ = write!(text, "| {case} |");
            for name in &names {
                text += &match self.of(case).find(|row| row.who == *name) {
                    Some(row) if row.who == FLOOR => format!(" {:.0} |", row.rate),
                    Some(row) => format!(" {:.0} ({:.1}×) |", row.rate, self.ratio(row)),
                    None => " – |".to_owned(),
                };
            }
            text.push('\n');
        }
        text += "| peak memory, MiB |";
        for name in &names {
            let peak = self.rows.iter().filter(|row| row.who == *name).map(|row| row.peak).max();
            let _ = write!(text, " {:.0} |", peak.unwrap_or(0) as f64 / 1024.0);
        }
        text.push('\n');
        text
    }

    /// The first image's cases as bars.
    pub(crate) fn chart(&self) -> String {
        let cases: Vec<_> = self.cases().into_iter().filter(|case| case.ends_with("one layer")).collect();
        let rows: Vec<_> = self.rows.iter().filter(|row| cases.contains(&row.case.as_str())).collect();
        let bars: Vec<_> = rows
            .iter()
            .map(|row| chart::Bar { case: &row.case, who: row.who, value: row.min, digits: 2 })
            .collect();
        chart::svg(
            &bars,
            &self.machine.line(),
            &Labels {
                title: "How long an image takes on its way in and out",
                description: "For each case a bar for each program, the shorter the faster, the first being the floor: plain programs that do the same with the same bytes. A dashed line marks 1.2 times the floor. The table below has the numbers.",
                heading: "shortest of all rounds, seconds; dashed: 1.2 times the floor",
                limit: 1.2,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let machine = Machine {
            date: "2026-01-02".into(),
            kernel: "6.18".into(),
            processor: "x".into(),
            processors: 2,
        };
        let taken = |seconds| Taken { seconds, processor: seconds, peak: 2048 };
        let rows = vec![
            Row::new("load, one layer", FLOOR, 8_000_000, &[taken(2.0), taken(1.0)]),
            Row::new("load, one layer", "sampan", 8_000_000, &[taken(2.0)]),
            Row::new("unpack, 40 layers", FLOOR, 8_000_000, &[taken(1.0)]),
        ];
        Report { machine, rows }
    }

    #[test]
    fn rates_are_of_the_shortest_times() {
        let report = report();
        assert_eq!((report.rows[0].min, report.rows[0].rate, report.rows[0].median), (1.0, 8.0, 1.5));
        let expected = "*2026-01-02; Linux 6.18; 2 × x*\n\n| MB/s | floor | sampan |\n|---|--:|--:|\n\
            | load, one layer | 8 | 4 (2.0×) |\n| unpack, 40 layers | 8 | – |\n| peak memory, MiB | 2 | 2 |\n";
        assert_eq!(report.markdown(), expected);
        assert!(report.text().contains("2.00x"), "{}", report.text());
    }

    #[test]
    fn the_chart_has_the_first_image() {
        let svg = report().chart();
        assert_eq!(svg.matches(r#"rx="3""#).count(), 2, "{svg}");
    }
}
