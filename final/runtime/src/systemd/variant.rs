//! GVariant's text format: how a value of D-Bus is written in an annotation, and after `systemd-run -p` nearly so too.
//!
//! A value brings its type along, or it is taken from how it looks: `true`, `'text'`, `5` (32 bits with a sign), `1.5`,
//! `['a', 'b']`, `[byte 3, 0x0f]`. A type is said by a word, `uint64 5`, or by its signature, `@t 5`, and an empty array has to
//! say its own: `@as []`. What a scope has no property of (pairs, dictionaries, arrays in arrays) is not read.
//!
//! The text is an engine's user's: it is read from its beginning to its end, without recursion.
//!
//! See GLib's documentation, "GVariant Text Format"; the D-Bus specification, "Type System".

use super::wire::Value;

/// Types by their names in the text.
const WORDS: [(&str, &str); 11] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
];

/// Reads a value.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader(text);
    let typ = reader.typ()?;
    let value =
        if reader.begins('[') { reader.array(typ.as_deref())? } else { reader.single(typ.as_deref())? };
    reader.blanks();
    if reader.0.is_empty() { Ok(value) } else { Err(format!("{:?} is left over", reader.0)) }
}

/// What is still to be read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Takes the character, if it comes next.
    fn begins(&mut self, with: char) -> bool {
        self.blanks();
        self.0.strip_prefix(with).map(|rest| self.0 = rest).is_some()
    }

    fn word(&mut self) -> &'a str {
        let end = self.0.find(|c: char| c.is_ascii_whitespace() || "[],".contains(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    /// The type that is said in front of a value, as a signature.
    fn typ(&mut self) -> Result<Option<String>, String> {
        self.blanks();
        let before = self.0;
        if self.begins('@') {
            return Ok(Some(self.word().to_owned()));
        }
        let word = self.word();
        if let Some((_, typ)) = WORDS.iter().find(|(name, _)| *name == word) {
            return Ok(Some((*typ).to_owned()));
        }
        self.0 = before;
        Ok(None)
    }

    /// The elements are of one type, which the first may say for all of them.
    fn array(&mut self, typ: Option<&str>) -> Result<Value, String> {
        let mut element = match typ {
            Some(typ) => Some(
                typ.strip_prefix('a').ok_or_else(|| format!("an array is not of type {typ}"))?.to_owned(),
            ),
            None => None,
        };
        let mut values = Vec::new();
        while !self.begins(']') {
            if !values.is_empty() && !self.begins(',') {
                return Err("an array without its ]".to_owned());
            }
            element = self.typ()?.or(element);
            values.push(self.single(element.as_deref())?);
            element = values.last().map(|value: &Value| value.signature().to_owned());
        }
        let of = |typ: &str| {
            element.as_deref() == Some(typ) && values.iter().all(|value| value.signature() == typ)
        };
        if of("s") {
            return Ok(Value::Texts(values.iter().filter_map(Value::text).map(str::to_owned).collect()));
        }
        if of("u") {
            let number = |value: &Value| if let Value::U32(number) = value { Some(*number) } else { None };
            return Ok(Value::Numbers(values.iter().filter_map(number).collect()));
        }
        if of("y") {
            let byte = |value: &Value| {
                if let Value::Fixed(_, bytes) = value { bytes.first().copied() } else { None }
            };
            return Ok(Value::Bytes(values.iter().filter_map(byte).collect()));
        }
        Err(match element {
            None => "an empty array has to say its type, as in @as []".to_owned(),
            Some(_) => "an array is of texts, or all of its numbers are uint32, or byte".to_owned(),
        })
    }

    fn single(&mut self, typ: Option<&str>) -> Result<Value, String> {
        self.blanks();
        if let Some(quote @ ('\'' | '"')) = self.0.chars().next() {
            let text = self.quoted(quote)?;
            return match typ {
                None | Some("s") => Ok(Value::Text(text)),
                Some("o") => Ok(Value::Path(text)),
                Some(typ) => Err(format!("a text is not of type {typ}")),
            };
        }
        let word = self.word();
        match (word, typ) {
            ("true" | "false", None | Some("b")) => Ok(Value::Bool(word == "true")),
            _ => number(word, typ).ok_or_else(|| match typ {
                Some(typ) => format!("{word:?} is no value of type {typ}"),
                None => format!("{word:?} is no value: a text is in quotes, and a number may need its type, as in uint64 5"),
            }),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.0[1..].chars();
        loop {
            let next = match characters.next() {
                Some(character) if character == quote => break,
                Some('\\') => match characters.next() {
                    Some('n') => Some('\n'),
                    Some('t') => Some('\t'),
                    Some(digits @ ('u' | 'U')) => {
                        let hex: String =
                            characters.by_ref().take(if digits == 'u' { 4 } else { 8 }).collect();
                        u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)
                    }
                    other => other,
                },
                other => other,
            };
            match next {
                // D-Bus has no text with a zero in it.
                Some(character) if character != '\0' => text.push(character),
                _ => return Err("a text that does not end, or with what is no character".to_owned()),
            }
        }
        self.0 = characters.as_str();
        Ok(text)
    }
}

/// A number as C writes it; of 32 bits with a sign where nothing else is said.
fn number(word: &str, typ: Option<&str>) -> Option<Value> {
    let (negative, digits) = word.strip_prefix('-').map_or((false, word), |digits| (true, digits));
    let begins = digits.starts_with(|c: char| c.is_ascii_digit());
    let is_hexadecimal = digits.starts_with("0x");
    if typ == Some("d") || typ.is_none() && !is_hexadecimal && digits.contains(['.', 'e']) {
        let number: f64 = word.parse().ok().filter(|_| begins)?;
        return Some(Value::Fixed("d", number.to_ne_bytes().to_vec()));
    }
    let whole = match digits.strip_prefix("0x") {
        Some(digits) => i128::from(u64::from_str_radix(digits, 16).ok()?),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8).ok()?.into(),
        None => digits.parse::<u64>().ok().filter(|_| begins)?.into(),
    };
    let whole = if negative { -whole } else { whole };
    Some(match typ.unwrap_or("i") {
        "t" => Value::U64(whole.try_into().ok()?),
        "u" => Value::U32(whole.try_into().ok()?),
        "y" => Value::Fixed("y", u8::try_from(whole).ok()?.to_ne_bytes().to_vec()),
        "n" => Value::Fixed("n", i16::try_from(whole).ok()?.to_ne_bytes().to_vec()),
        "q" => Value::Fixed("q", u16::try_from(whole).ok()?.to_ne_bytes().to_vec()),
        "i" => Value::Fixed("i", i32::try_from(whole).ok()?.to_ne_bytes().to_vec()),
        "x" => Value::Fixed("x", i64::try_from(whole).ok()?.to_ne_bytes().to_vec()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_brings_its_type_or_looks_like_it() {
        let int32 = |number: i32| Value::Fixed("i", number.to_ne_bytes().to_vec());
        let texts = |texts: &[&str]| Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
        for (text, value) in [
            (" true ", Value::Bool(true)),
            ("boolean false", Value::Bool(false)),
            ("5", int32(5)),
            ("-0x10", int32(-16)),
            ("010", int32(8)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("@u 7", Value::U32(7)),
            ("byte 255", Value::Fixed("y", vec![255])),
            ("1.5", Value::Fixed("d", 1.5_f64.to_ne_bytes().to_vec())),
            (r#"'it\'s "so"'"#, Value::Text("it's \"so\"".to_owned())),
            (r#""\u00e4\n[,]""#, Value::Text("ä\n[,]".to_owned())),
            ("objectpath '/a'", Value::Path("/a".to_owned())),
            ("['a','b']", texts(&["a", "b"])),
            ("[ \"a, ]\" , 'b' ]", texts(&["a, ]", "b"])),
            ("@as []", texts(&[])),
            ("[uint32 1, 2]", Value::Numbers(vec![1, 2])),
            ("[byte 0x3, 1]", Value::Bytes(vec![3, 1])),
            ("@ay [255]", Value::Bytes(vec![255])),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            " ",
            "text",
            "'open",
            "'a' 'b'",
            "'\\",
            "'\\ud800'",
            "'\\u0000'",
            "uint64",
            "uint64 -1",
            "uint32 4294967296",
            "byte 256",
            "2147483648",
            "5x",
            "+5",
            "--5",
            "0x",
            "09",
            "1_0",
            "inf",
            "nan",
            "double inf",
            "[",
            "[]",
            "['a'",
            "['a',",
            "['a' 'b']",
            "['a',]",
            "[,]",
            "['a', uint32 1]",
            "[uint32 1, 'a']",
            "[1, 2]",
            "[['a']]",
            "@",
            "@@s 'a'",
            "@as 'a'",
            "@s ['a']",
            "@(ss) ('a','b')",
            "{'a': 'b'}",
            "<5>",
            "uint64 uint64 5",
            "string 5",
            "uint64 'a'",
            "true false",
            "just 5",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
