//! Quotes away and variables in: what a word means when its instruction is carried out.
//!
//! | written | means |
//! |---|---|
//! | `$name` `${name}` | the variable's value; nothing where it is not set |
//! | `${name:-word}` `${name-word}` | the word where it is not set; with `:` also where it is empty |
//! | `${name:+word}` `${name+word}` | the word where it is set; with `:` only where it is not empty |
//! | `${name:?word}` `${name?word}` | an error that says the word, where it is not set |
//! | `\$` `'$'` | the character itself |
//!
//! The word in braces is expanded in its turn. See "Environment replacement" in the Dockerfile reference.

use super::mistake::Finding;
use super::{Span, Word};

/// Expands a word. `variable` gives a variable's value.
pub(crate) fn expand(
    word: &Word,
    escape: char,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Finding> {
    let mut expander =
        Expander { text: &word.text, at: 0, escape, variable, span: word.span, out: String::new() };
    expander.run(None)?;
    Ok(expander.out)
}

/// Braces within braces; more is nobody's Dockerfile.
const DEEPEST: usize = 32;

struct Expander<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    variable: &'a dyn Fn(&str) -> Option<String>,
    span: Span,
    out: String,
}

impl Expander<'_> {
    fn run(&mut self, depth: Option<usize>) -> Result<(), Finding> {
        let mut quoted = false;
        while let Some(char) = self.peek() {
            match char {
                // The end of a word in braces.
                '}' if depth.is_some() && !quoted => return Ok(()),
                '\'' if !quoted => {
                    self.next();
                    while let Some(char) = self.next().filter(|char| *char != '\'') {
                        self.out.push(char);
                    }
                }
                '"' => {
                    self.next();
                    quoted = !quoted;
                }
                '$' => self.dollar(depth.unwrap_or(0))?,
                char if char == self.escape => {
                    self.next();
                    self.escaped(quoted);
                }
                char => {
                    self.next();
                    self.out.push(char);
                }
            }
        }
        if depth.is_some() { Err(self.wrong("a ${ is not closed", "write } after it")) } else { Ok(()) }
    }

    /// Within "..." the escape character takes the meaning only from what has one there.
    fn escaped(&mut self, quoted: bool) {
        match self.next() {
            Some(char) if quoted && !['"', '$', self.escape].contains(&char) => {
                self.out.extend([self.escape, char]);
            }
            Some(char) => self.out.push(char),
            None => self.out.push(self.escape),
        }
    }

    fn dollar(&mut self, depth: usize) -> Result<(), Finding> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            match name.as_str() {
                "" => self.out.push('$'),
                name => self.out.push_str(&(self.variable)(name).unwrap_or_default()),
            }
            return Ok(());
        }
        self.next();
        let name = self.name();
        if name.is_empty() || depth >= DEEPEST {
            return Err(self.wrong("no variable's name after ${", "a name has letters, digits and _"));
        }
        let value = (self.variable)(&name);
        let (colon, operator) = match self.next() {
            Some('}') => {
                self.out.push_str(&value.unwrap_or_default());
                return Ok(());
            }
            Some(':') => (true, self.next()),
            other => (false, other),
        };
        let before = std::mem::take(&mut self.out);
        self.run(Some(depth + 1))?;
        self.next();
        let word = std::mem::replace(&mut self.out, before);
        let set = value.filter(|value| !colon || !value.is_empty());
        match (operator, set) {
            (Some('-'), Some(value)) => self.out.push_str(&value),
            (Some('-'), None) | (Some('+'), Some(_)) => self.out.push_str(&word),
            (Some('+'), None) => {}
            (Some('?'), Some(value)) => self.out.push_str(&value),
            (Some('?'), None) => {
                let word = if word.is_empty() { "it is not set" } else { &word };
                return Err(self.wrong(&format!("${name}: {word}"), "give it a value by ARG or ENV"));
            }
            _ => {
                return Err(self.wrong(
                    &format!("${{{name}...}} has an operator that is not supported"),
                    "supported are :- - :+ + :? ?",
                ));
            }
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let rest = &self.text[self.at..];
        let valid = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let length = match rest.chars().next() {
            // $1 is a name of one digit, as in a shell; it is never set.
            Some(char) if char.is_ascii_digit() => 1,
            _ => rest.find(|char| !valid(char)).unwrap_or(rest.len()),
        };
        self.at += length;
        rest[..length].to_owned()
    }

    fn wrong(&self, what: &str, remedy: &str) -> Finding {
        Finding::new(self.span, what, remedy)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let variable = |name: &str| match name {
            "set" => Some("value".to_owned()),
            "empty" => Some(String::new()),
            "two" => Some("a b".to_owned()),
            _ => None,
        };
        let word = Word { text: text.to_owned(), span: Span::default() };
        expand(&word, '\\', &variable).map_err(|finding| finding.what)
    }

    #[test]
    fn variables_quotes_and_escapes() {
        for (text, meaning) in [
            ("$set/x", "value/x"),
            ("${set}s", "values"),
            ("$unset.", "."),
            (r"\$set", "$set"),
            ("'$set'", "$set"),
            ("\"$set 'x'\"", "value 'x'"),
            (r#""a\"b\c""#, r#"a"b\c"#),
            (r"a\ b", "a b"),
            ("${unset:-x}", "x"),
            ("${empty:-x}", "x"),
            ("${empty-x}", ""),
            ("${set:+x}", "x"),
            ("${empty:+x}", ""),
            ("${empty+x}", "x"),
            ("${unset:-${two}}", "a b"),
            ("${unset:-'}'}", "}"),
            ("${set:?no}", "value"),
            ("$", "$"),
            ("a$$b", "a$"),
            ("$10", "0"),
            (r"x\", r"x\"),
            ("é$set", "évalue"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(meaning), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert!(expanded("${set").unwrap_err().contains("not closed") || expanded("${set").is_err());
        assert!(expanded("${}").unwrap_err().contains("name"));
        assert!(expanded("${set#x}").unwrap_err().contains("operator"));
        assert_eq!(expanded("${unset:?say so}").unwrap_err(), "$unset: say so");
        assert!(expanded(&"${a:-".repeat(100)).is_err());
    }
}
