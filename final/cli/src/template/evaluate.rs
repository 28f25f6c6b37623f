//! A tree and a value to text.

use serde_json::Value;

use super::functions;
use super::parse::{Command, From, Node, Operand, Pipeline};

/// What names stand for, at one place of the template.
struct Scope<'a> {
    /// `$`: the whole value.
    top: &'a Value,
    variables: Vec<(String, Value)>,
}

pub(super) fn render(nodes: &[Node], value: &Value) -> Result<String, String> {
    let mut out = String::new();
    Scope { top: value, variables: Vec::new() }.nodes(nodes, value, &mut out)?;
    Ok(out)
}

impl Scope<'_> {
    /// Variables that are set in a block end with it.
    fn nodes(&mut self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<(), String> {
        let outside = self.variables.len();
        for node in nodes {
            self.node(node, dot, out)?;
        }
        self.variables.truncate(outside);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value, out: &mut String) -> Result<(), String> {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipeline) => out.push_str(&functions::print(&self.pipeline(pipeline, dot)?)),
            Node::Set { variable, value } => {
                let value = self.pipeline(value, dot)?;
                self.variables.push((variable.clone(), value));
            }
            Node::If { condition, then, otherwise } => {
                let chosen =
                    if functions::is_true(&self.pipeline(condition, dot)?) { then } else { otherwise };
                self.nodes(chosen, dot, out)?;
            }
            Node::With { variable, value, body, otherwise } => {
                let value = self.pipeline(value, dot)?;
                if !functions::is_true(&value) {
                    return self.nodes(otherwise, dot, out);
                }
                let outside = self.variables.len();
                self.variables.extend(variable.iter().map(|name| (name.clone(), value.clone())));
                self.nodes(body, &value, out)?;
                self.variables.truncate(outside);
            }
            Node::Range { variables, over, body, otherwise } => {
                let items = items(self.pipeline(over, dot)?)?;
                if items.is_empty() {
                    return self.nodes(otherwise, dot, out);
                }
                for (key, item) in items {
                    let outside = self.variables.len();
                    match variables.as_slice() {
                        [] => {}
                        [value] => self.variables.push((value.clone(), item.clone())),
                        [index, value, ..] => {
                            self.variables.extend([(index.clone(), key), (value.clone(), item.clone())]);
                        }
                    }
                    self.nodes(body, &item, out)?;
                    self.variables.truncate(outside);
                }
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut before = None;
        for command in &pipeline.0 {
            before = Some(self.command(command, dot, before)?);
        }
        Ok(before.unwrap_or(Value::Null))
    }

    fn command(&self, command: &Command, dot: &Value, before: Option<Value>) -> Result<Value, String> {
        let arguments = command.arguments.iter().map(|operand| self.operand(operand, dot));
        let mut arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        match &command.function {
            Some(function) => {
                arguments.extend(before);
                functions::call(function, &arguments)
            }
            None if before.is_some() => {
                Err("a value gets nothing from the left of |: a function is expected".to_owned())
            }
            None => Ok(arguments.pop().unwrap_or(Value::Null)),
        }
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        let group;
        let mut value = match &operand.from {
            From::Dot => dot,
            From::Literal(value) => value,
            From::Variable(name) if name.is_empty() => self.top,
            From::Variable(name) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                found.map(|(_, value)| value).ok_or_else(|| format!("there is no variable ${name}"))?
            }
            From::Group(pipeline) => {
                group = self.pipeline(pipeline, dot)?;
                &group
            }
        };
        for field in &operand.fields {
            value = match value.get(field) {
                Some(found) => found,
                None if std::ptr::eq(value, self.top) => return Err(unknown(field, value)),
                None => &Value::Null,
            };
        }
        Ok(value.clone())
    }
}

fn unknown(field: &str, value: &Value) -> String {
    let names: Vec<_> =
        value.as_object().into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
    format!("there is no field {field:?}; there are {}", names.join(" "))
}

fn items(value: Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        // What `index` gives for a key that is not there.
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect())
        }
        Value::Object(map) => Ok(map.into_iter().map(|(key, item)| (Value::String(key), item)).collect()),
        other => Err(format!("range goes over a list or a map, not over {other}")),
    }
}
