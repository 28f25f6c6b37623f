//! What a mistake in a Dockerfile looks like.
//!
//! ```text
//! Dockerfile:3:1: unknown instruction RUM
//!   |
//! 3 | RUM apt-get update
//!   | ^^^
//!   = did you mean RUN?
//! ```

use std::fmt;

use super::Span;

/// A mistake, with the line in which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    file: String,
    line: usize,
    column: usize,
    source: String,
    width: usize,
    what: String,
    remedy: String,
}

/// A mistake as the parser finds it: it knows bytes, not lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) span: Span,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn new(span: Span, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { span, what: what.into(), remedy: remedy.into() }
    }
}

impl Mistake {
    /// Finds the line and the column, both counted from 1, the column in characters.
    pub(crate) fn new(file: &str, text: &str, finding: Finding) -> Self {
        let floor =
            |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let (start, end) = (floor(finding.span.start), floor(finding.span.end));
        let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let to = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let width = text[start..end.clamp(start, to)].chars().count().max(1);
        Self {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[from..start].chars().count() + 1,
            source: text[from..to].trim_end().to_owned(),
            width,
            what: finding.what,
            remedy: finding.remedy,
        }
    }

    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, source, width, what, remedy } = self;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // A tab before the place is kept, so that the caret stands below it on every terminal.
        let before: String =
            source.chars().take(column - 1).map(|char| if char == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{file}:{line}:{column}: {what}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {source}")?;
        write!(f, "{margin} | {before}{}", "^".repeat(*width))?;
        if remedy.is_empty() { Ok(()) } else { write!(f, "\n{margin} = {remedy}") }
    }
}

impl std::error::Error for Mistake {}
