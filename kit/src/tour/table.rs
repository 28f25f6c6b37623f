//! The isolation table: a row for each thing, a column for each program.

use std::fmt::Write;

use colored::Colorize;
use serde_json::{Value, json};

use super::judge::{Cell, ROWS};
use super::measure::Column;

/// The table as text, green where both sides agree.
pub(crate) fn text(columns: &[Column]) -> String {
    let mut text = format!("{:16}", "");
    for column in columns {
        let _ = write!(text, " {:^13}", column.name);
    }
    text.push('\n');
    for (row, (name, _)) in ROWS.iter().enumerate() {
        let _ = write!(text, "{name:16}");
        for column in columns {
            let cell = column.cells.as_ref().ok().and_then(|cells| cells.get(row)).copied();
            let sign = format!("{:^13}", cell.map_or(" ", sign));
            let green = cell.is_some_and(Cell::is_green);
            let _ = write!(text, " {}", if green { sign.green() } else { sign.dimmed() });
        }
        text.push('\n');
    }
    for column in columns {
        if let Err(reason) = &column.cells {
            let _ = writeln!(text, "\n{}: {reason}", column.name);
        }
        for note in &column.notes {
            let _ = writeln!(text, "\n{}: {note}", column.name);
        }
    }
    text
}

/// Two sides that do not agree are worth a look.
fn sign(cell: Cell) -> &'static str {
    match (cell.inside, cell.outside) {
        (true, true) => "✓",
        (false, false) => "·",
        _ => "?",
    }
}

/// The table as data: each cell with what each side says.
pub(crate) fn as_json(columns: &[Column]) -> Value {
    let column = |column: &Column| {
        let cells: serde_json::Map<String, Value> = match &column.cells {
            Ok(cells) => ROWS
                .iter()
                .zip(cells)
                .map(|((name, _), cell)| {
                    (
                        (*name).to_owned(),
                        json!({ "inside": cell.inside, "outside": cell.outside, "green": cell.is_green() }),
                    )
                })
                .collect(),
            Err(reason) => [("error".to_owned(), json!(reason))].into_iter().collect(),
        };
        json!({ "name": column.name, "cells": cells, "notes": column.notes })
    };
    json!(columns.iter().map(column).collect::<Vec<_>>())
}
