//! The functions of a template: Go's, and those that Docker adds.

use std::cmp::Ordering;

use serde_json::{Value, json};

/// As Go prints it.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            // What is in a set stands for nothing more: `map[80/tcp:{}]`.
            let shown = |value: &Value| if *value == json!({}) { "{}".to_owned() } else { print(value) };
            let pairs: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Whether `if` takes it for true: not for nothing, zero, or what is empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |at: usize| arguments.get(at).map(print).ok_or_else(|| format!("{name} needs more"));
    let any = |at: usize| arguments.get(at).ok_or_else(|| format!("{name} needs more"));
    let all = || arguments.iter().map(print).collect::<Vec<_>>();
    let compare = |fits: fn(Ordering) -> bool| Ok::<_, String>(Value::Bool(fits(order(any(0)?, any(1)?))));
    Ok(match name {
        "json" => Value::String(serde_json::to_string(any(0)?).map_err(|error| error.to_string())?),
        "print" => Value::String(all().concat()),
        "println" => Value::String(all().join(" ") + "\n"),
        "printf" => Value::String(format(&text(0)?, arguments.get(1..).unwrap_or_default())?),
        "lower" => Value::String(text(0)?.to_lowercase()),
        "upper" => Value::String(text(0)?.to_uppercase()),
        "title" => Value::String(title(&text(0)?)),
        "join" => Value::String(list(any(0)?)?.iter().map(print).collect::<Vec<_>>().join(&text(1)?)),
        "split" => text(0)?.split(&text(1)?).map(str::to_owned).collect(),
        "pad" => Value::String(" ".repeat(width(any(1)?)?) + &text(0)? + &" ".repeat(width(any(2)?)?)),
        "slice" => slice(arguments)?,
        "truncate" => Value::String(text(0)?.chars().take(number(any(1)?)?).collect()),
        "len" => match any(0)? {
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            Value::String(text) => text.len().into(),
            Value::Null => 0.into(),
            other => return Err(format!("{other} has no length")),
        },
        "index" => arguments.iter().skip(1).try_fold(any(0)?.clone(), |value, key| index(&value, key))?,
        "not" => Value::Bool(!is_true(any(0)?)),
        "and" => arguments
            .iter()
            .find(|value| !is_true(value))
            .or(arguments.last())
            .cloned()
            .unwrap_or(Value::Null),
        "or" => {
            arguments.iter().find(|value| is_true(value)).or(arguments.last()).cloned().unwrap_or(Value::Null)
        }
        "eq" => Value::Bool(arguments.iter().skip(1).any(|other| same(&arguments[0], other))),
        "ne" => Value::Bool(!same(any(0)?, any(1)?)),
        "lt" => compare(Ordering::is_lt)?,
        "le" => compare(Ordering::is_le)?,
        "gt" => compare(Ordering::is_gt)?,
        "ge" => compare(Ordering::is_ge)?,
        _ => return Err(format!("there is no function {name:?}")),
    })
}

fn title(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(&[]),
        other => Err(format!("{other} is no list")),
    }
}

fn number(value: &Value) -> Result<usize, String> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is no whole number"))
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        Value::Array(items) => {
            let at = number(key)?;
            items.get(at).cloned().ok_or_else(|| format!("index {at} of a list of {}", items.len()))
        }
        // Go gives a map's zero for a key that is not there: of labels, the empty string.
        Value::Object(map) => Ok(map.get(&print(key)).cloned().unwrap_or_else(|| json!(""))),
        Value::Null => Ok(json!("")),
        other => Err(format!("{other} has no parts")),
    }
}

/// A part of a text or a list, from one place to before another.
fn slice(arguments: &[Value]) -> Result<Value, String> {
    let of = arguments.first().ok_or("slice needs more")?;
    let at = |index: usize, or: usize| arguments.get(index).map_or(Ok(or), number);
    let outside = |length: usize| format!("slice beyond a length of {length}");
    match of {
        Value::String(text) => {
            let part = text.get(at(1, 0)?..at(2, text.len())?);
            part.map(|part| json!(part)).ok_or_else(|| outside(text.len()))
        }
        Value::Array(items) => {
            let part = items.get(at(1, 0)?..at(2, items.len())?);
            part.map(|part| json!(part)).ok_or_else(|| outside(items.len()))
        }
        other => Err(format!("{other} has no parts")),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(_), Some(_))) && order(a, b).is_eq()
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => print(a).cmp(&print(b)),
    }
}

/// A number of blanks: no template needs more than a screen is wide, and none gets all memory.
fn width(value: &Value) -> Result<usize, String> {
    const WIDEST: usize = 1000;
    number(value)
        .and_then(|width| if width > WIDEST { Err(format!("{width} is too wide")) } else { Ok(width) })
}

/// `%s`, `%v`, `%d`, `%t`, `%q`, with a width, as `%-20s` or `%5d`, and at most so many characters, as `%.12s`; `%%`.
fn format(text: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let at = after.find(|character: char| !matches!(character, '-' | '.' | '0'..='9'));
        let (size, verb) = after.split_at(at.unwrap_or(after.len()));
        let argument = arguments.next().ok_or("printf needs more")?;
        let mut shown = match verb.chars().next() {
            Some('s' | 'v' | 'd' | 't') => print(argument),
            Some('q') => Value::String(print(argument)).to_string(),
            _ => return Err("printf knows %s %v %d %t %q".to_owned()),
        };
        let (wide, most) = size.split_once('.').unwrap_or((size, ""));
        let count = |digits: &str| match digits {
            "" => Ok(0),
            digits => {
                digits.parse().map_err(|_| format!("%{size} is no width")).and_then(|n: u64| width(&n.into()))
            }
        };
        if !most.is_empty() {
            shown = shown.chars().take(count(most)?).collect();
        }
        out.push_str(&match wide.strip_prefix('-') {
            Some(wide) => format!("{shown:<0$}", count(wide)?),
            None => format!("{shown:>0$}", count(wide)?),
        });
        rest = &verb[1..];
    }
    Ok(out + rest)
}
