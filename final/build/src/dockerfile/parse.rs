//! From lines to instructions: one function for each kind of arguments.

use super::lines::{Line, split};
use super::mistake::Finding;
use super::names::{KNOWN, unknown, usage};
use super::words::Reader;
use super::{Command, Dockerfile, Health, Instruction, Kind, Mistake, Span, Transfer, Word};

/// Parses a Dockerfile; `file` is how messages call it.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse(file: &str, text: &str) -> Result<Dockerfile, Mistake> {
    dockerfile(text).map_err(|finding| Mistake::new(file, text, finding))
}

fn dockerfile(text: &str) -> Result<Dockerfile, Finding> {
    let lines = split(text)?;
    let mut instructions: Vec<Instruction> = Vec::new();
    for line in &lines.lines {
        let parsed = instruction(line, lines.escape)?;
        let before_from = instructions.iter().all(|earlier| matches!(earlier.kind, Kind::Arg(_)));
        if before_from && !matches!(parsed.kind, Kind::From { .. } | Kind::Arg(_)) {
            return Err(Finding::new(
                parsed.span,
                "no image to begin with",
                "write FROM image above it; only ARG may stand before FROM",
            ));
        }
        instructions.push(parsed);
    }
    if !instructions.iter().any(|instruction| matches!(instruction.kind, Kind::From { .. })) {
        let end = Span { start: 0, end: 0 };
        return Err(Finding::new(
            end,
            "there is no FROM in this file",
            "an image begins with FROM image, or FROM scratch",
        ));
    }
    Ok(Dockerfile { escape: lines.escape, instructions })
}

/// Parses an instruction that stands alone: that an image's ONBUILD carries, or a `--change`. `source` says which.
pub(crate) fn alone(source: &str, text: &str, escape: char) -> Result<Instruction, Mistake> {
    let parsed = instruction(&Line::whole(text, 0), escape);
    parsed.map_err(|finding| Mistake::new(source, text, finding))
}

pub(crate) fn instruction(line: &Line, escape: char) -> Result<Instruction, Finding> {
    let mut reader = Reader::new(line, escape);
    let name = reader.name();
    let upper = name.text.to_ascii_uppercase();
    let Some(known) = KNOWN.into_iter().find(|known| *known == upper) else {
        return Err(unknown(&name));
    };
    if reader.rest().is_empty() {
        return Err(Finding::new(name.span, format!("{known} says nothing"), usage(known)));
    }
    let kind = match known {
        "FROM" => from(&mut reader)?,
        "RUN" => {
            no_flags(&mut reader, known)?;
            no_heredoc(&mut reader, name.span)?;
            Kind::Run(command(&mut reader))
        }
        "CMD" => Kind::Cmd(command(&mut reader)),
        "ENTRYPOINT" => Kind::Entrypoint(command(&mut reader)),
        "COPY" => Kind::Copy(transfer(&mut reader, known, name.span)?),
        "ADD" => Kind::Add(transfer(&mut reader, known, name.span)?),
        "ENV" => Kind::Env(pairs(&mut reader, known)?),
        "LABEL" => Kind::Label(pairs(&mut reader, known)?),
        "WORKDIR" => Kind::Workdir(whole(&mut reader)),
        "USER" => Kind::User(single(&mut reader, known)?),
        "EXPOSE" => Kind::Expose(reader.words()?),
        "VOLUME" => Kind::Volume(list(&mut reader)?),
        "MAINTAINER" => Kind::Maintainer(reader.rest().to_owned()),
        "ARG" => arg(&mut reader)?,
        "SHELL" => shell(&mut reader)?,
        "STOPSIGNAL" => Kind::StopSignal(single(&mut reader, known)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck(&mut reader)?),
        _ => on_build(&mut reader, escape)?,
    };
    Ok(Instruction { span: name.span, text: line.text.clone(), kind })
}

fn from(reader: &mut Reader<'_>) -> Result<Kind, Finding> {
    while let Some((name, value)) = reader.flag()? {
        let here = format!("linux/{}", oci_spec::image::Arch::default());
        match (name.text.as_str(), value) {
            ("--platform", Some(value)) if value.text == here || value.text.ends_with("PLATFORM") => {}
            ("--platform", Some(value)) => {
                return Err(Finding::new(
                    value.span,
                    "another platform than this machine's is not supported",
                    format!("it is {here}"),
                ));
            }
            _ => return Err(no_such_flag(&name, "FROM", "known is --platform=linux/...")),
        }
    }
    let words = reader.words()?;
    match words.as_slice() {
        [image] => Ok(Kind::From { image: image.clone(), name: None }),
        [image, r#as, name] if r#as.text.eq_ignore_ascii_case("as") => {
            let valid = |(at, char): (usize, char)| match char {
                'a'..='z' => true,
                '0'..='9' | '.' | '_' | '-' => at > 0,
                _ => false,
            };
            let lower = name.text.to_ascii_lowercase();
            if !lower.char_indices().all(valid) {
                return Err(Finding::new(
                    name.span,
                    format!("{:?} cannot be a stage's name", name.text),
                    "it begins with a letter, and has letters, digits and . _ -",
                ));
            }
            Ok(Kind::From { image: image.clone(), name: Some(lower) })
        }
        [_, second, ..] => Err(Finding::new(second.span, "FROM names one image", usage("FROM"))),
        [] => Err(Finding::new(reader.rest_span(), "FROM names no image", usage("FROM"))),
    }
}

/// A JSON array of strings is the exec form; everything else is for the shell, also what only looks like one.
fn command(reader: &mut Reader<'_>) -> Command {
    let rest = reader.rest();
    match json(rest) {
        Some(args) if !args.is_empty() => Command::Exec(args),
        _ => Command::Shell(rest.to_owned()),
    }
}

fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

fn transfer(reader: &mut Reader<'_>, name: &str, span: Span) -> Result<Transfer, Finding> {
    let (mut chown, mut chmod, mut from) = (None, None, None);
    while let Some((flag, value)) = reader.flag()? {
        match (flag.text.as_str(), value) {
            ("--chown", Some(value)) => chown = Some(value),
            ("--chmod", Some(value)) => chmod = Some(value),
            ("--from", Some(value)) if name == "COPY" => from = Some(value),
            // It says how the layer may be cached, and changes no file.
            ("--link", _) => {}
            _ => return Err(no_such_flag(&flag, name, "known are --chown= --chmod= and, for COPY, --from=")),
        }
    }
    no_heredoc(reader, span)?;
    let mut sources = list(reader)?;
    match sources.pop() {
        Some(destination) if !sources.is_empty() => Ok(Transfer { sources, destination, chown, chmod, from }),
        Some(only) => Err(Finding::new(only.span, format!("{name} names no destination"), usage(name))),
        None => Err(Finding::new(span, format!("{name} says nothing"), usage(name))),
    }
}

/// Words, or a JSON array of them, for names with blanks.
fn list(reader: &mut Reader<'_>) -> Result<Vec<Word>, Finding> {
    match json(reader.rest()) {
        Some(words) => {
            let span = reader.rest_span();
            // In JSON a quote and a backslash are done with: they are made plain again for what expands the words.
            let plain = |text: String| text.replace('\\', r"\\").replace('"', "\\\"").replace('\'', r"\'");
            Ok(words.into_iter().map(|text| Word { text: plain(text), span }).collect())
        }
        None => reader.words(),
    }
}

fn pairs(reader: &mut Reader<'_>, name: &str) -> Result<Vec<(Word, Word)>, Finding> {
    let mut pairs = Vec::new();
    while let Some((key, value)) = reader.pair()? {
        if key.text.is_empty() {
            return Err(Finding::new(
                value.map_or(key.span, |value| value.span),
                "no name before the =",
                usage(name),
            ));
        }
        match value {
            Some(value) => pairs.push((key, value)),
            // The old form: the name, and all the rest is the value.
            None if pairs.is_empty() => {
                let (rest, span) = (reader.rest().to_owned(), reader.rest_span());
                if rest.is_empty() {
                    return Err(Finding::new(
                        key.span,
                        format!("{name} gives {} no value", key.text),
                        usage(name),
                    ));
                }
                return Ok(vec![(key, Word { text: rest, span })]);
            }
            None => {
                return Err(Finding::new(
                    key.span,
                    format!("no = after {}", key.text),
                    "a value with blanks stands in quotes: name=\"a b\"",
                ));
            }
        }
    }
    Ok(pairs)
}

fn single(reader: &mut Reader<'_>, name: &str) -> Result<Word, Finding> {
    let mut words = reader.words()?;
    match words.len() {
        1 => Ok(words.remove(0)),
        _ => Err(Finding::new(
            words.get(1).map_or_else(Span::default, |word| word.span),
            format!("{name} takes one word"),
            usage(name),
        )),
    }
}

fn whole(reader: &mut Reader<'_>) -> Word {
    let span = reader.rest_span();
    Word { text: reader.rest().to_owned(), span }
}

fn arg(reader: &mut Reader<'_>) -> Result<Kind, Finding> {
    let mut args = Vec::new();
    while let Some((name, value)) = reader.pair()? {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.text.is_empty() || !name.text.bytes().all(valid) {
            return Err(Finding::new(
                name.span,
                format!("{:?} cannot be a variable's name", name.text),
                "a name has letters, digits and _",
            ));
        }
        args.push((name.text, value));
    }
    Ok(Kind::Arg(args))
}

fn shell(reader: &mut Reader<'_>) -> Result<Kind, Finding> {
    match json(reader.rest()) {
        Some(args) if !args.is_empty() => Ok(Kind::Shell(args)),
        _ => Err(Finding::new(reader.rest_span(), "SHELL takes a JSON array alone", usage("SHELL"))),
    }
}

fn on_build(reader: &mut Reader<'_>, escape: char) -> Result<Kind, Finding> {
    let text = reader.rest().to_owned();
    let span = reader.rest_span();
    let inner = instruction(&Line::whole(&text, span.start), escape)?;
    if matches!(inner.kind, Kind::From { .. } | Kind::OnBuild(_) | Kind::Maintainer(_)) {
        return Err(Finding::new(
            inner.span,
            "this instruction cannot be a trigger",
            "ONBUILD takes neither FROM, MAINTAINER nor ONBUILD",
        ));
    }
    Ok(Kind::OnBuild(text))
}

fn healthcheck(reader: &mut Reader<'_>) -> Result<Health, Finding> {
    let mut health = Health::default();
    while let Some((name, value)) = reader.flag()? {
        let Some(value) = value else {
            return Err(no_such_flag(&name, "HEALTHCHECK", "a flag is written --name=value"));
        };
        let wrong = || {
            Finding::new(
                value.span,
                format!("{:?} is no number", value.text),
                "write 3, or for a time 30s or 1m30s",
            )
        };
        match name.text.as_str() {
            "--retries" => health.retries = value.text.parse().map_err(|_| wrong())?,
            "--interval" => health.interval = duration(&value.text).ok_or_else(wrong)?,
            "--timeout" => health.timeout = duration(&value.text).ok_or_else(wrong)?,
            "--start-period" => health.start_period = duration(&value.text).ok_or_else(wrong)?,
            "--start-interval" => health.start_interval = duration(&value.text).ok_or_else(wrong)?,
            _ => {
                return Err(no_such_flag(
                    &name,
                    "HEALTHCHECK",
                    "known are --interval= --timeout= --start-period= --start-interval= --retries=",
                ));
            }
        }
    }
    let word = reader.name();
    match word.text.to_ascii_uppercase().as_str() {
        "NONE" => Ok(health),
        "CMD" if !reader.rest().is_empty() => Ok(Health { command: Some(command(reader)), ..health }),
        _ => {
            Err(Finding::new(word.span, "a health check is CMD and a command, or NONE", usage("HEALTHCHECK")))
        }
    }
}

/// Nanoseconds of a time such as `1m30s` or `500ms`.
fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        let nanoseconds = match &rest[..unit] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(nanoseconds)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

fn no_flags(reader: &mut Reader<'_>, name: &str) -> Result<(), Finding> {
    match reader.rest().starts_with("--").then(|| reader.flag()).transpose()?.flatten() {
        Some((flag, _)) => Err(no_such_flag(&flag, name, "flags of RUN are not supported yet")),
        None => Ok(()),
    }
}

fn no_such_flag(flag: &Word, name: &str, remedy: &str) -> Finding {
    Finding::new(flag.span, format!("unknown flag {} of {name}", flag.text), remedy)
}

/// `<<NAME`, but neither `<<<` nor a shift in arithmetic.
fn no_heredoc(reader: &mut Reader<'_>, span: Span) -> Result<(), Finding> {
    let rest = reader.rest();
    let found = rest.match_indices("<<").find(|(at, _)| {
        let after = rest[at + 2..].trim_start_matches('-').trim_start_matches(['"', '\'']);
        !rest[..*at].ends_with(['<', '('])
            && after.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
    });
    match found {
        Some((at, _)) => {
            let part =
                Span { start: reader.part(at, at + 2).start, end: reader.part(at, at + 2).end.max(span.end) };
            Err(Finding::new(
                part,
                "here-documents are not supported yet",
                r"write the commands after RUN, joined by && \",
            ))
        }
        None => Ok(()),
    }
}
