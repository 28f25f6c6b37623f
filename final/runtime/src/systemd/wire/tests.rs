//! Messages there and back, and against the bytes that the specification gives.

use super::*;

fn message(body: Vec<Value>) -> Message {
    Message {
        kind: Kind::Call,
        serial: 7,
        reply_to: Some(3),
        path: Some("/a/b".into()),
        interface: Some("x.y".into()),
        member: Some("Do".into()),
        error: None,
        destination: Some(":1.5".into()),
        body,
    }
}

#[test]
fn what_is_written_is_read_again() {
    let properties = vec![
        ("Slice".to_owned(), Value::Text("a.slice".into())),
        ("Delegate".to_owned(), Value::Bool(true)),
        ("PIDs".to_owned(), Value::Numbers(vec![1, 2])),
        ("MemoryMax".to_owned(), Value::U64(u64::MAX)),
        ("AllowedCPUs".to_owned(), Value::Bytes(vec![3])),
    ];
    let all = message(vec![
        Value::Text("one".into()),
        Value::Properties(properties.clone()),
        Value::Units(vec![("u".into(), properties)]),
        Value::Variant(Box::new(Value::Texts(vec!["x".into(), String::new()]))),
        Value::Units(Vec::new()),
    ]);
    let bytes = all.encode();
    assert_eq!(Message::length(bytes[..16].try_into().unwrap()).unwrap(), bytes.len());
    assert_eq!(Message::decode(&bytes).unwrap(), all);
}

#[test]
fn a_message_that_is_cut_off_or_bent_is_an_error() {
    let bytes = message(vec![Value::Properties(vec![("a".into(), Value::U32(1))])]).encode();
    for end in 0..bytes.len() {
        Message::decode(&bytes[..end]).unwrap_err();
    }
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] = 0xff;
        let _ = Message::decode(&bent);
    }
}

#[test]
#[cfg(target_endian = "little")]
fn bytes_are_as_the_specification_has_them() {
    let hello = Message { reply_to: None, path: Some("/".into()), destination: None, ..message(vec![]) };
    let expected = b"l\x01\0\x01\0\0\0\0\x07\0\0\0\x2b\0\0\0\x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0\
        \x02\x01s\0\x03\0\0\0x.y\0\0\0\0\0\x03\x01s\0\x02\0\0\0Do\0\0\0\0\0\0";
    assert_eq!(hello.encode(), expected);
}
