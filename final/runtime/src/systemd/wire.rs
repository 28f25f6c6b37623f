//! D-Bus messages as bytes.
//!
//! A message is a header and a body. Every value is aligned to its own size from the beginning of the message, strings carry their
//! length and a zero, an array its length in bytes. The *signature* tells the types: `a(sv)` is an array of pairs of a string
//! and a *variant*, which brings its own signature along. Only the types that systemd's manager speaks are here.
//!
//! See the D-Bus specification, "Marshaling (Wire Format)" and "Message Protocol".

use std::io;

/// The machine's own byte order, by its letter.
const ENDIAN: u8 = if cfg!(target_endian = "big") { b'B' } else { b'l' };
/// Messages above this are refused: systemd's answers have a few hundred bytes.
const LONGEST: usize = 1 << 20;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Somebody is to do something.
    Call = 1,
    /// It was done.
    Return = 2,
    /// It was not.
    Error = 3,
    /// Told to whoever listens.
    Signal = 4,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number, by which an answer names it.
    pub serial: u32,
    /// Which message it answers.
    pub reply_to: Option<u32>,
    /// The object, `/org/freedesktop/systemd1`.
    pub path: Option<String>,
    /// The interface of the object.
    pub interface: Option<String>,
    /// The method, or the signal.
    pub member: Option<String>,
    /// The name of the error.
    pub error: Option<String>,
    /// Who is to have it.
    pub destination: Option<String>,
    /// What it brings along.
    pub body: Vec<Value>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `u`
    U32(u32),
    /// `t`
    U64(u64),
    /// Any other number, by its type: `y`, `n`, `q`, `i`, `x` or `d`, in as many bytes as that has. It is only written.
    Fixed(&'static str, Vec<u8>),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
    /// `a(sv)`
    Properties(Vec<(String, Value)>),
    /// `a(sa(sv))`
    Units(Vec<(String, Vec<(String, Value)>)>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    pub(super) fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::U32(_) => "u",
            Self::U64(_) => "t",
            Self::Fixed(typ, _) => typ,
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Bytes(_) => "ay",
            Self::Numbers(_) => "au",
            Self::Texts(_) => "as",
            Self::Properties(_) => "a(sv)",
            Self::Units(_) => "a(sa(sv))",
            Self::Variant(_) => "v",
        }
    }

    /// The text, where it is one, or a variant that holds one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) => Some(text),
            Self::Variant(value) => value.text(),
            _ => None,
        }
    }
}

/// Bytes that grow.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_ne_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length does not count the gap in front of the first element.
    fn array<T>(&mut self, align: usize, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        items.iter().for_each(|it| item(self, it));
        let bytes = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length..length + 4].copy_from_slice(&bytes.to_ne_bytes());
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        self.value(value);
    }

    fn properties(&mut self, list: &[(String, Value)]) {
        self.array(8, list, |writer, (name, value)| {
            writer.align(8);
            writer.text(name);
            writer.variant(value);
        });
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(yes) => self.u32(u32::from(*yes)),
            Value::U32(number) => self.u32(*number),
            Value::U64(number) => {
                self.align(8);
                self.0.extend(number.to_ne_bytes());
            }
            Value::Fixed(_, bytes) => {
                self.align(bytes.len().max(1));
                self.0.extend(bytes);
            }
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Bytes(bytes) => self.array(1, bytes, |writer, byte| writer.0.push(*byte)),
            Value::Numbers(numbers) => self.array(4, numbers, |writer, number| writer.u32(*number)),
            Value::Texts(texts) => self.array(4, texts, |writer, text| writer.text(text)),
            Value::Properties(list) => self.properties(list),
            Value::Units(list) => self.array(8, list, |writer, (name, properties)| {
                writer.align(8);
                writer.text(name);
                writer.properties(properties);
            }),
            Value::Variant(value) => self.variant(value),
        }
    }
}

impl Message {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.value(value));
        let mut writer = Writer(vec![ENDIAN, self.kind as u8, 0, 1]);
        writer.u32(u32::try_from(body.0.len()).unwrap_or(u32::MAX));
        writer.u32(self.serial);
        let mut fields: Vec<(u8, &str, Value)> = Vec::new();
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        fields.extend(self.path.clone().map(|path| (1, "o", Value::Path(path))));
        for (number, value) in
            [(2, &self.interface), (3, &self.member), (4, &self.error), (6, &self.destination)]
        {
            fields.extend(text(value).map(|value| (number, "s", value)));
        }
        fields.extend(self.reply_to.map(|serial| (5, "u", Value::U32(serial))));
        let signature: String = self.body.iter().map(Value::signature).collect();
        if !signature.is_empty() {
            fields.push((8, "g", Value::Text(signature)));
        }
        writer.array(8, &fields, |writer, (number, typ, value)| {
            writer.align(8);
            writer.0.push(*number);
            writer.signature(typ);
            match value {
                Value::Text(text) if *typ == "g" => writer.signature(text),
                value => writer.value(value),
            }
        });
        writer.align(8);
        writer.0.extend(body.0);
        writer.0
    }

    /// How long the message is that begins with these 16 bytes.
    ///
    /// # Errors
    /// Where they are no beginning of one.
    pub fn length(start: &[u8; 16]) -> io::Result<usize> {
        if start[0] != ENDIAN || start[3] != 1 {
            return Err(nonsense("a message of another byte order, or another version"));
        }
        let mut reader = Reader { bytes: start, at: 4 };
        let (body, _serial, fields) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let length = (16 + fields as usize).next_multiple_of(8).saturating_add(body as usize);
        if length > LONGEST { Err(nonsense("a message that is too long")) } else { Ok(length) }
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// Where it is none, or has types that are not known here.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err(nonsense("a message of no known kind")),
        };
        let mut reader = Reader { bytes, at: 8 };
        let mut message = Self {
            kind,
            serial: reader.u32()?,
            reply_to: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            destination: None,
            body: Vec::new(),
        };
        let mut signature = String::new();
        let end = reader.u32()? as usize + 16;
        while reader.at < end {
            reader.align(8);
            let number = reader.byte()?;
            let typ = reader.signature()?;
            match (number, typ.as_str()) {
                (1, "o") => message.path = Some(reader.text()?),
                (2, "s") => message.interface = Some(reader.text()?),
                (3, "s") => message.member = Some(reader.text()?),
                (4, "s") => message.error = Some(reader.text()?),
                (5, "u") => message.reply_to = Some(reader.u32()?),
                (6, "s") => message.destination = Some(reader.text()?),
                (8, "g") => signature = reader.signature()?,
                _ => drop(reader.value(&mut typ.as_str())?),
            }
        }
        reader.align(8);
        let mut rest = signature.as_str();
        while !rest.is_empty() {
            match reader.value(&mut rest) {
                Ok(value) => message.body.push(value),
                // Somebody else's signal, with types that systemd's do not have.
                Err(_) if kind == Kind::Signal => break,
                Err(error) => return Err(error),
            }
        }
        Ok(message)
    }
}

/// Bytes that are read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| nonsense("a message that ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        self.take(4)?.try_into().map(u32::from_ne_bytes).map_err(|_| nonsense("a number"))
    }

    fn string(&mut self, length: usize) -> io::Result<String> {
        let text = String::from_utf8(self.take(length)?.to_vec());
        self.take(1)?;
        text.map_err(|_| nonsense("a text that is not UTF-8"))
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.u32()? as usize;
        self.string(length)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = usize::from(self.byte()?);
        self.string(length)
    }

    fn array<T>(&mut self, align: usize, item: impl Fn(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let length = self.u32()? as usize;
        self.align(align);
        let end = self.at.saturating_add(length);
        let mut items = Vec::new();
        while self.at < end {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn property(&mut self) -> io::Result<(String, Value)> {
        self.align(8);
        Ok((self.text()?, self.variant()?))
    }

    fn variant(&mut self) -> io::Result<Value> {
        let signature = self.signature()?;
        self.value(&mut signature.as_str())
    }

    /// One value of the type that the signature begins with; it is taken off.
    fn value(&mut self, signature: &mut &str) -> io::Result<Value> {
        const TYPES: [&str; 11] = ["a(sa(sv))", "a(sv)", "ay", "au", "as", "b", "u", "t", "s", "o", "v"];
        let typ = TYPES.into_iter().find(|typ| signature.starts_with(typ));
        let typ = typ.ok_or_else(|| nonsense("a type that is not known here"))?;
        *signature = &signature[typ.len()..];
        Ok(match typ {
            "b" => Value::Bool(self.u32()? != 0),
            "u" => Value::U32(self.u32()?),
            "t" => {
                self.align(8);
                let number = self.take(8)?.try_into().map(u64::from_ne_bytes);
                Value::U64(number.map_err(|_| nonsense("a number"))?)
            }
            "s" => Value::Text(self.text()?),
            "o" => Value::Path(self.text()?),
            "ay" => Value::Bytes(self.array(1, Self::byte)?),
            "au" => Value::Numbers(self.array(4, Self::u32)?),
            "as" => Value::Texts(self.array(4, Self::text)?),
            "a(sv)" => Value::Properties(self.array(8, Self::property)?),
            "v" => Value::Variant(Box::new(self.variant()?)),
            _ => Value::Units(self.array(8, |reader| {
                reader.align(8);
                Ok((reader.text()?, reader.array(8, Self::property)?))
            })?),
        })
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the bus sent {what}"))
}

#[cfg(test)]
mod tests;
