//! As much of D-Bus as a manager needs for the runtime: its calls are read, and answers and one signal written.
//!
//! Little-endian alone, as the tests' machines are. See the D-Bus specification, "Message Protocol".

/// A method call.
#[derive(Clone, Default)]
pub(super) struct Call {
    serial: u32,
    pub(super) member: String,
    body: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// A text with its length in front of it.
fn text_at(bytes: &[u8], at: usize) -> String {
    let length = u32_at(bytes, at) as usize;
    String::from_utf8_lossy(&bytes[at + 4..at + 4 + length]).into_owned()
}

/// How long the message is that begins so.
pub(super) fn length(start: &[u8; 16]) -> usize {
    assert_eq!((start[0], start[1], start[3]), (b'l', 1, 1), "a call, in version 1 of the protocol");
    (16 + u32_at(start, 12) as usize).next_multiple_of(8) + u32_at(start, 4) as usize
}

impl Call {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let end = 16 + u32_at(bytes, 12) as usize;
        let mut call = Self {
            serial: u32_at(bytes, 8),
            body: bytes[end.next_multiple_of(8)..].to_vec(),
            ..Self::default()
        };
        let mut at = 16;
        while at < end {
            at = at.next_multiple_of(8);
            // The field's number, and its type of one letter with its length before and a zero after it.
            let (number, kind) = (bytes[at], bytes[at + 2]);
            assert_eq!((bytes[at + 1], bytes[at + 3]), (1, 0));
            at += 4;
            match kind {
                b'g' => at += usize::from(bytes[at]) + 2,
                b'u' => at += 4,
                _ => {
                    let text = text_at(bytes, at);
                    at += 4 + text.len() + 1;
                    if number == 3 {
                        call.member = text;
                    }
                }
            }
        }
        call
    }

    /// The body's first value, a text.
    pub(super) fn first_text(&self) -> String {
        text_at(&self.body, 0)
    }

    /// Where the values of a property begin, which may have been given more than once.
    fn values(&self, name: &str, kind: &str) -> Vec<usize> {
        let wanted =
            [name.as_bytes(), &[0, u8::try_from(kind.len()).unwrap_or(u8::MAX)], kind.as_bytes(), &[0]]
                .concat();
        let windows = self.body.windows(wanted.len()).enumerate();
        let all: Vec<_> =
            windows.filter(|(_, window)| *window == wanted).map(|(at, _)| at + wanted.len()).collect();
        assert!(!all.is_empty(), "no property {name} of type {kind}");
        all
    }

    /// A property's value, a number; of an array of them the first.
    pub(super) fn number(&self, name: &str, kind: &str) -> u64 {
        self.number_at(self.values(name, kind)[0], kind)
    }

    /// The same of the last such property.
    pub(super) fn last_number(&self, name: &str, kind: &str) -> u64 {
        self.number_at(self.values(name, kind).pop().unwrap_or_default(), kind)
    }

    /// A property's value, a text, or an array of them.
    pub(super) fn texts(&self, name: &str, kind: &str) -> Vec<String> {
        let mut at = self.values(name, kind)[0].next_multiple_of(4);
        let mut end = at + 1;
        if kind == "as" {
            end = at + 4 + u32_at(&self.body, at) as usize;
            at += 4;
        }
        let mut texts = Vec::new();
        while at < end {
            at = at.next_multiple_of(4);
            texts.push(text_at(&self.body, at));
            at += 4 + texts.last().map_or(0, String::len) + 1;
        }
        texts
    }

    fn number_at(&self, at: usize, kind: &str) -> u64 {
        match kind {
            "t" => {
                let at = at.next_multiple_of(8);
                u64::from_le_bytes(array(&self.body, at))
            }
            "au" => u32_at(&self.body, at.next_multiple_of(4) + 4).into(),
            _ => u32_at(&self.body, at.next_multiple_of(4)).into(),
        }
    }

    pub(super) fn answer(&self, signature: &str, body: &[u8]) -> Vec<u8> {
        message(2, &[(5, "u", self.serial.to_le_bytes().to_vec())], signature, body)
    }

    pub(super) fn error(&self, name: &str, why: &str) -> Vec<u8> {
        message(3, &[(4, "s", text(name)), (5, "u", self.serial.to_le_bytes().to_vec())], "s", &text(why))
    }
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length, text.as_bytes(), &[0]].concat()
}

/// A text in a variant.
pub(super) fn variant(value: &str) -> Vec<u8> {
    [&[1, b's', 0, 0][..], &text(value)].concat()
}

/// (number, job, unit, result)
pub(super) fn job_removed(job: &str, result: &str) -> Vec<u8> {
    let mut body = 7_u32.to_le_bytes().to_vec();
    for value in [job, "sampan-c.scope", result] {
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(text(value));
    }
    let of = "org.freedesktop.systemd1.Manager";
    message(4, &[(1, "o", text("/x")), (2, "s", text(of)), (3, "s", text("JobRemoved"))], "uoss", &body)
}

fn message(kind: u8, fields: &[(u8, &str, Vec<u8>)], signature: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend([9, 0, 0, 0, 0, 0, 0, 0]);
    let short = |text: &str| [&[u8::try_from(text.len()).unwrap_or(u8::MAX)], text.as_bytes(), &[0]].concat();
    let last = (!signature.is_empty()).then(|| (8, "g", short(signature)));
    for (number, kind, value) in fields.iter().cloned().chain(last) {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.push(number);
        bytes.extend(short(kind));
        bytes.extend(value);
    }
    let length = u32::try_from(bytes.len() - 16).unwrap_or(u32::MAX).to_le_bytes();
    bytes[12..16].copy_from_slice(&length);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}
