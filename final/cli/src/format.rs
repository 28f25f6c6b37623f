//! Columns, sizes and times as Docker prints them.

use comfy_table::{ColumnConstraint, Table, Width, presets};
use jiff::Timestamp;

/// A table with three blanks between its columns, each at least ten wide, and no lines: as Docker's.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec()).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3)).set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(10)));
    }
    table.trim_fmt()
}

/// A size in powers of 1000, with at most four digits: `4.26MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut divisor = 1_u64;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1000 {
        divisor *= 1000;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes}B");
    }
    let (whole, thousandths) = (bytes / divisor, bytes % divisor / (divisor / 1000));
    let text = match whole {
        0..10 => format!("{whole}.{:02}", thousandths / 10),
        10..100 => format!("{whole}.{}", thousandths / 100),
        _ => whole.to_string(),
    };
    format!("{text}{}", UNITS[unit])
}

/// Text of somebody else's on one line: a line's end or a terminal's escape in it would make more of it than a cell.
pub(crate) fn cell(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A moment as Docker's `{{.CreatedAt}}` of an image has it.
pub(crate) fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// A moment to the second, as a step of a history has it.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How long ago: `3 minutes ago`.
pub(crate) fn ago(time: Timestamp) -> String {
    format!("{} ago", duration(Timestamp::now().duration_since(time).as_secs().unsigned_abs()))
}

/// A time span, as Docker rounds it: hours to the nearest, all else down.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let days = hours / 24;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ => match hours {
            ..2 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{days} days"),
            336..1440 => format!("{} weeks", days / 7),
            1440..17_520 => format!("{} months", days / 30),
            _ => format!("{} years", days / 365),
        },
    }
}

/// A moment as Docker's filters take it: RFC 3339, a date, seconds since 1970, or a duration back from now, as `90m` or `24h`.
pub(crate) fn moment(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Timestamp::from_second(seconds)?);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        return Ok(date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp());
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| {
        anyhow::anyhow!("{text:?} is no time: 2026-01-31, 2026-01-31T12:00:00Z, or a duration as 24h")
    })?;
    Ok(Timestamp::now().checked_sub(span)?)
}

/// Asks on the terminal; without one, nobody has said yes.
pub(crate) fn confirmed(warning: &str) -> anyhow::Result<bool> {
    use std::io::{BufRead as _, Write as _};
    print!("{warning}\nAre you sure you want to continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_figures() {
        let sizes =
            [(0, "0B"), (999, "999B"), (4_263_000, "4.26MB"), (42_630_000, "42.6MB"), (426_000_000, "426MB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_read_as_docker_writes_them() {
        assert_eq!(duration(0), "Less than a second");
        assert_eq!(duration(90), "About a minute");
        assert_eq!(duration(5399), "About an hour");
        assert_eq!(duration(5400), "2 hours");
        assert_eq!(duration(86_400 * 13), "13 days");
        assert_eq!(duration(86_400 * 20), "2 weeks");
    }
}
