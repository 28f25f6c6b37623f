//! Text to a tree.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::Value;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { variables: Vec<String>, over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    With { variable: Option<String>, value: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Set { variable: String, value: Pipeline },
}

/// Commands, each of which gets what the one before gives as its last argument.
#[derive(Debug, PartialEq)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

/// A function with its arguments, or a value alone.
#[derive(Debug, PartialEq)]
pub(super) struct Command {
    pub(super) function: Option<String>,
    pub(super) arguments: Vec<Operand>,
}

/// A value, and the fields to follow from it.
#[derive(Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) from: From,
    pub(super) fields: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) enum From {
    Dot,
    Variable(String),
    Literal(Value),
    Group(Pipeline),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `.a.b`, or `.` alone.
    Field(Vec<String>),
    Variable(String),
    Literal(Value),
    Pipe,
    Open,
    Close,
    Comma,
    Assign,
}

type Tokens = Peekable<IntoIter<Token>>;

/// What the text between two actions, and an action, are.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let pieces = pieces(text)?;
    check_depth(&pieces)?;
    let mut pieces = pieces.into_iter();
    let (nodes, end) = block(&mut pieces)?;
    match end {
        None => Ok(nodes),
        Some(_) => Err("an {{end}} or {{else}} that ends nothing".to_owned()),
    }
}

/// What is nested is read, and evaluated, by recursion.
fn check_depth(pieces: &[Piece]) -> Result<(), String> {
    const DEEPEST: usize = 100;
    let actions = || {
        pieces.iter().filter_map(|piece| if let Piece::Action(tokens) = piece { Some(tokens) } else { None })
    };
    let is_block = |token: &Token| matches!(token, Token::Word(word) if matches!(word.as_str(), "if" | "range" | "with"));
    let blocks = actions().filter(|tokens| tokens.iter().any(is_block)).count();
    let groups = actions().map(|tokens| tokens.iter().filter(|token| **token == Token::Open).count()).max();
    if blocks > DEEPEST || groups.is_some_and(|groups| groups > DEEPEST) {
        return Err(format!("more than {DEEPEST} blocks, or parts in parentheses, may be nested"));
    }
    Ok(())
}

/// The nodes up to the action that ends a block, and that action.
fn block(pieces: &mut IntoIter<Piece>) -> Result<(Vec<Node>, Option<Tokens>), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let mut tokens = tokens.into_iter().peekable();
        let word = match tokens.peek() {
            None => continue,
            Some(Token::Word(word)) => word.clone(),
            Some(_) => String::new(),
        };
        if matches!(word.as_str(), "end" | "else") {
            return Ok((nodes, Some(tokens)));
        }
        if matches!(word.as_str(), "if" | "range" | "with") {
            tokens.next();
            nodes.push(opened(&word, tokens, pieces)?);
            continue;
        }
        let mut names = variables(&mut tokens)?;
        let value = pipeline(&mut tokens)?;
        done(&mut tokens)?;
        nodes.push(match names.pop() {
            Some(variable) => Node::Set { variable, value },
            None => Node::Print(value),
        });
    }
    Ok((nodes, None))
}

/// A block whose first action's word is known.
fn opened(word: &str, mut tokens: Tokens, pieces: &mut IntoIter<Piece>) -> Result<Node, String> {
    let mut variables = variables(&mut tokens)?;
    let value = pipeline(&mut tokens)?;
    done(&mut tokens)?;
    let (body, end) = block(pieces)?;
    let mut end = end.ok_or_else(|| format!("{{{{{word}}}}} has no {{{{end}}}}"))?;
    let mut otherwise = Vec::new();
    if end.next() == Some(Token::Word("else".to_owned())) {
        match end.next() {
            // `else if` is an `if` in the `else`, and the two share an `end`.
            Some(Token::Word(inner)) if inner == "if" || inner == "with" => {
                otherwise.push(opened(&inner, end, pieces)?);
            }
            Some(_) => return Err("after else comes nothing, or an if".to_owned()),
            None => {
                let (nodes, end) = block(pieces)?;
                otherwise = nodes;
                if end.is_none_or(|mut end| end.next() != Some(Token::Word("end".to_owned()))) {
                    return Err(format!("{{{{{word}}}}} has no {{{{end}}}}"));
                }
            }
        }
    }
    Ok(match word {
        "if" => Node::If { condition: value, then: body, otherwise },
        "range" => Node::Range { variables, over: value, body, otherwise },
        _ => Node::With { variable: variables.pop(), value, body, otherwise },
    })
}

/// `$a, $b :=` before a pipeline, if that stands there.
fn variables(tokens: &mut Tokens) -> Result<Vec<String>, String> {
    let ahead: Vec<_> = tokens.clone().take_while(|token| *token != Token::Assign).collect();
    if ahead.len() == tokens.clone().count() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for token in ahead {
        tokens.next();
        match token {
            Token::Variable(name) => names.push(name),
            Token::Comma => {}
            _ => return Err("before := stand names of variables".to_owned()),
        }
    }
    tokens.next();
    Ok(names)
}

fn pipeline(tokens: &mut Tokens) -> Result<Pipeline, String> {
    let mut commands = vec![command(tokens)?];
    while tokens.next_if_eq(&Token::Pipe).is_some() {
        commands.push(command(tokens)?);
    }
    Ok(Pipeline(commands))
}

fn command(tokens: &mut Tokens) -> Result<Command, String> {
    let function = match tokens.peek() {
        Some(Token::Word(word)) => Some(word.clone()),
        _ => None,
    };
    if function.is_some() {
        tokens.next();
    }
    let mut arguments = Vec::new();
    while let Some(operand) = operand(tokens)? {
        arguments.push(operand);
    }
    if function.is_none() && arguments.len() != 1 {
        return Err("a function, or one value, is expected".to_owned());
    }
    Ok(Command { function, arguments })
}

fn operand(tokens: &mut Tokens) -> Result<Option<Operand>, String> {
    let plain = |from| Operand { from, fields: Vec::new() };
    let mut operand = match tokens.peek() {
        Some(Token::Field(fields)) => Operand { from: From::Dot, fields: fields.clone() },
        Some(Token::Variable(name)) => plain(From::Variable(name.clone())),
        Some(Token::Literal(value)) => plain(From::Literal(value.clone())),
        Some(Token::Open) => {
            tokens.next();
            let inner = pipeline(tokens)?;
            if tokens.peek() != Some(&Token::Close) {
                return Err("a ( without its )".to_owned());
            }
            plain(From::Group(inner))
        }
        _ => return Ok(None),
    };
    tokens.next();
    if matches!(operand.from, From::Variable(_) | From::Group(_))
        && let Some(Token::Field(fields)) =
            tokens.next_if(|token| matches!(token, Token::Field(fields) if !fields.is_empty()))
    {
        operand.fields = fields;
    }
    Ok(Some(operand))
}

fn done(tokens: &mut Tokens) -> Result<(), String> {
    match tokens.next() {
        None => Ok(()),
        Some(token) => Err(format!("{token:?} is not expected there")),
    }
}

/// Cuts the text at `{{` and `}}`; a `-` inside takes the blanks outside away.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let end = end_of_action(after)?;
        let (mut action, left) = (&after[..end], &after[end + 2..]);
        let mut before = if trim { before.trim_start() } else { before };
        if let Some(inner) = action.strip_prefix("- ") {
            (before, action) = (before.trim_end(), inner);
        }
        trim = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        if !action.starts_with("/*") {
            let tokens = tokens(action)?;
            if tokens.is_empty() {
                return Err("{{}} says nothing".to_owned());
            }
            pieces.push(Piece::Action(tokens));
        }
        rest = left;
    }
    let rest = if trim { rest.trim_start() } else { rest };
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Where the action's `}}` is: not one in a string.
fn end_of_action(text: &str) -> Result<usize, String> {
    let (mut quote, mut escaped) = (None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), other) if open == other && !escaped => quote = None,
            (None, '"' | '`') => quote = Some(character),
            (None, '}') if text[at..].starts_with("}}") => return Ok(at),
            _ => {}
        }
        escaped = false;
    }
    Err("a {{ without its }}".to_owned())
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = token(first, rest)?;
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// The token that a text begins with, and how many bytes it has.
fn token(first: char, rest: &str) -> Result<(Token, usize), String> {
    let unended = || format!("a string that does not end: {rest}");
    // Up to the first character that does not belong to it.
    let run = |belongs: fn(char) -> bool| 1 + rest[1..].find(|c| !belongs(c)).unwrap_or(rest.len() - 1);
    Ok(match first {
        '|' => (Token::Pipe, 1),
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        ',' => (Token::Comma, 1),
        '=' => (Token::Assign, 1),
        ':' if rest.starts_with(":=") => (Token::Assign, 2),
        '"' => {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = values.next().and_then(Result::ok).ok_or_else(unended)?;
            (Token::Literal(Value::String(text)), values.byte_offset())
        }
        '`' => {
            let end = rest[1..].find('`').ok_or_else(unended)?;
            (Token::Literal(Value::String(rest[1..=end].to_owned())), end + 2)
        }
        '.' => {
            let length = run(|c| is_name(c) || c == '.');
            let fields = rest[1..length].split('.').filter(|name| !name.is_empty());
            (Token::Field(fields.map(str::to_owned).collect()), length)
        }
        '$' => {
            let length = run(is_name);
            (Token::Variable(rest[1..length].to_owned()), length)
        }
        first if first.is_ascii_digit() || first == '-' => {
            let length = run(|c| c.is_ascii_digit() || c == '.');
            let number = serde_json::from_str(&rest[..length]);
            (Token::Literal(number.map_err(|_| format!("no number: {}", &rest[..length]))?), length)
        }
        first if is_name(first) => {
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let token = match &rest[..length] {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "nil" => Token::Literal(Value::Null),
                word => Token::Word(word.to_owned()),
            };
            (token, length)
        }
        other => return Err(format!("{other:?} is not expected there")),
    })
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
