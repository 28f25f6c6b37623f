//! From the file to one text for each instruction: parser directives, comments and continued lines.
//!
//! 1. `# escape=` and `# syntax=` count only above everything else; after the first line that is none, they are comments.
//! 2. A line whose first character is `#` is a comment, also amid a continued instruction. `#` elsewhere is text.
//! 3. A line that ends with the escape character goes on in the next; blank lines amid are passed over.
//!
//! See "Format" and "Parser directives" in the Dockerfile reference.

use super::Span;
use super::mistake::Finding;

/// An instruction on one line, which knows where each of its bytes came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text, without comments and escapes at line ends.
    pub text: String,
    /// Pieces of `text`: where each begins in it, and where in the source.
    pieces: Vec<(usize, usize)>,
}

impl Line {
    /// Where a piece of the text stands in the source.
    pub fn span(&self, start: usize, end: usize) -> Span {
        // The last byte is looked up, and not the one after it, which may be on the next line.
        let last = if end > start { self.source(end - 1) + 1 } else { self.source(start) };
        Span { start: self.source(start), end: last }
    }

    fn source(&self, at: usize) -> usize {
        let (piece, source) =
            self.pieces.iter().rev().find(|(piece, _)| *piece <= at).copied().unwrap_or_default();
        source + (at - piece)
    }

    /// A line of its own, as ONBUILD carries one.
    pub fn whole(text: &str, source: usize) -> Self {
        Self { text: text.to_owned(), pieces: vec![(0, source)] }
    }
}

/// The parser directives and the instructions' lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// The escape character.
    pub escape: char,
    /// One for each instruction.
    pub lines: Vec<Line>,
}

/// Splits the file.
pub(crate) fn split(text: &str) -> Result<Lines, Finding> {
    let escape = directives(text)?;
    let mut lines: Vec<Line> = Vec::new();
    let mut current: Option<Line> = None;
    for (start, raw) in physical(text) {
        let trimmed = raw.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (content, continued) = match without_escape(raw, escape) {
            Some(content) => (content, true),
            None => (raw, false),
        };
        // Before the instruction blanks mean nothing; within it they may lie in a string.
        let skipped = if current.is_none() { raw.len() - trimmed.len() } else { 0 };
        let content = content.get(skipped..).unwrap_or_default();
        let line = current.get_or_insert_with(|| Line { text: String::new(), pieces: Vec::new() });
        line.pieces.push((line.text.len(), start + skipped));
        line.text.push_str(content);
        if !continued {
            lines.extend(current.take());
        }
    }
    lines.extend(current);
    for line in &mut lines {
        line.text.truncate(line.text.trim_end().len());
    }
    lines.retain(|line| !line.text.is_empty());
    Ok(Lines { escape, lines })
}

/// The lines with the place where each begins, without their ends; a byte order mark is no text.
fn physical(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.strip_prefix('\u{feff}') {
            Some(rest) if start == 0 => (start + line.len() - rest.len(), rest),
            _ => (start, line),
        }
    })
}

/// The line without the escape at its end, if it has one; an escaped escape is none.
fn without_escape(line: &str, escape: char) -> Option<&str> {
    let content = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    if content.ends_with(escape) { None } else { Some(content) }
}

fn directives(text: &str) -> Result<char, Finding> {
    let mut escape = None;
    let mut seen: Vec<String> = Vec::new();
    for (start, line) in physical(text) {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        let name = name.trim().to_ascii_lowercase();
        let span = Span { start, end: start + line.len() };
        if !["escape", "syntax", "check"].contains(&name.as_str()) {
            break;
        }
        if seen.contains(&name) {
            return Err(Finding::new(
                span,
                format!("the parser directive {name} stands here again"),
                "leave one of them out",
            ));
        }
        if name == "escape" {
            escape = Some(match value.trim() {
                "\\" => '\\',
                "`" => '`',
                other => {
                    return Err(Finding::new(
                        span,
                        format!("{other:?} cannot be the escape character"),
                        r"it is \ or `",
                    ));
                }
            });
        }
        seen.push(name);
    }
    Ok(escape.unwrap_or('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        split(text).unwrap().lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn continued_lines_are_one_and_comments_amid_them_none() {
        let text = "\u{feff}FROM a\r\n\n# one\nRUN x \\\n  # two\n\n  && y \\  \n z # three\n  CMD c";
        assert_eq!(texts(text), ["FROM a", "RUN x   && y  z # three", "CMD c"]);
    }

    #[test]
    fn each_byte_knows_where_it_came_from() {
        let text = "RUN a \\\n   # c\n  bcd";
        let line = &split(text).unwrap().lines[0];
        let at = line.text.find("bcd").unwrap();
        let span = line.span(at, at + 3);
        assert_eq!(&text[span.start..span.end], "bcd");
    }

    #[test]
    fn the_escape_character_is_the_directives() {
        assert_eq!(texts("# escape=`\nRUN a `\n b \\\nRUN c"), ["RUN a  b \\", "RUN c"]);
        assert_eq!(texts("FROM a\n# escape=`\nRUN a `\n"), ["FROM a", "RUN a `"]);
        assert!(split("#escape=x\n").is_err());
        assert!(split("#escape=\\\n#escape=`\n").is_err());
        assert_eq!(texts("RUN a\\\\\nRUN b"), ["RUN a\\\\", "RUN b"]);
    }
}
