//! Words: pieces of a line between blanks, where a blank in quotes or after the escape character is none.

use super::lines::Line;
use super::mistake::Finding;
use super::{Span, Word};

/// A line that is read from left to right.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    line: &'a Line,
    escape: char,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(line: &'a Line, escape: char) -> Self {
        Self { line, escape, at: 0 }
    }

    /// What is left, without blanks around it.
    pub(crate) fn rest(&mut self) -> &'a str {
        self.skip();
        self.line.text[self.at..].trim_end()
    }

    /// Where what is left stands; the end of the line where nothing is.
    pub(crate) fn rest_span(&mut self) -> Span {
        let rest = self.rest().len();
        self.line.span(self.at, self.at + rest)
    }

    /// A part of what [`Reader::rest`] gives.
    pub(crate) fn part(&self, start: usize, end: usize) -> Span {
        self.line.span(self.at + start, self.at + end)
    }

    /// The next piece up to a blank, whatever it is: the instruction's name.
    pub(crate) fn name(&mut self) -> Word {
        self.skip();
        let rest = &self.line.text[self.at..];
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        self.take(length)
    }

    /// A flag, `--name` or `--name=value`, where one stands next.
    pub(crate) fn flag(&mut self) -> Result<Option<(Word, Option<Word>)>, Finding> {
        if !self.rest().starts_with("--") {
            return Ok(None);
        }
        let start = self.at;
        let Some(word) = self.word()? else { return Ok(None) };
        let text = &word.text[2..];
        let Some(equals) = text.find('=') else { return Ok(Some((word, None))) };
        let name =
            Word { text: format!("--{}", &text[..equals]), span: self.line.span(start, start + 2 + equals) };
        let value_at = start + 2 + equals + 1;
        let value = Word {
            text: text[equals + 1..].to_owned(),
            span: self.line.span(value_at, start + word.text.len()),
        };
        Ok(Some((name, Some(value))))
    }

    /// The next word.
    pub(crate) fn word(&mut self) -> Result<Option<Word>, Finding> {
        self.skip();
        let rest = &self.line.text[self.at..];
        let length = word_length(rest, self.escape, |_| false)
            .map_err(|quote| self.unclosed(self.at + quote, self.at + rest.len()))?;
        Ok((length > 0).then(|| self.take(length)))
    }

    /// All words that are left.
    pub(crate) fn words(&mut self) -> Result<Vec<Word>, Finding> {
        std::iter::from_fn(|| self.word().transpose()).collect()
    }

    /// The next `name=value`; the name alone, and none, where no `=` follows it.
    pub(crate) fn pair(&mut self) -> Result<Option<(Word, Option<Word>)>, Finding> {
        self.skip();
        let rest = &self.line.text[self.at..];
        let end = self.at + rest.len();
        let length = word_length(rest, self.escape, |char| char == '=')
            .map_err(|quote| self.unclosed(self.at + quote, end))?;
        if length == 0 && !rest.starts_with('=') {
            return Ok(None);
        }
        let name = self.take(length);
        let Some(value) = self.line.text[self.at..].strip_prefix('=') else { return Ok(Some((name, None))) };
        self.at += 1;
        let length = word_length(value, self.escape, |_| false)
            .map_err(|quote| self.unclosed(self.at + quote, end))?;
        Ok(Some((name, Some(self.take(length)))))
    }

    fn unclosed(&self, quote: usize, end: usize) -> Finding {
        let mark = self.line.text[quote..].chars().next().unwrap_or('"');
        Finding::new(
            self.line.span(quote, end),
            format!("the quote {mark} is not closed"),
            format!("close it, or write {}{mark} for the character itself", self.escape),
        )
    }

    fn take(&mut self, length: usize) -> Word {
        let (start, end) = (self.at, self.at + length);
        self.at = end;
        Word { text: self.line.text[start..end].to_owned(), span: self.line.span(start, end) }
    }

    fn skip(&mut self) {
        let rest = &self.line.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }
}

/// The length of the word with which the text begins; the place of a quote that is not closed.
fn word_length(text: &str, escape: char, ends: impl Fn(char) -> bool) -> Result<usize, usize> {
    let mut quote: Option<(char, usize)> = None;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match quote {
            // Within '...' the escape character has no meaning.
            Some((mark, _)) if char == escape && mark == '"' => drop(chars.next()),
            Some((mark, _)) if char == mark => quote = None,
            Some(_) => {}
            None if char == escape => drop(chars.next()),
            None if char == '"' || char == '\'' => quote = Some((char, at)),
            None if char.is_whitespace() || ends(char) => return Ok(at),
            None => {}
        }
    }
    quote.map_or(Ok(text.len()), |(_, at)| Err(at))
}
