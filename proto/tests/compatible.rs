//! Messages of the release before are read, and today's are read by it.
//!
//! Both schemas are compiled and compared: what the one before has is still there, with its number, type and name, so each reads what the
//! other writes; a new field is passed over by the old reader. Bytes that were written once are kept as well.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use perito_proto::v1::{TaskKind, TaskMessage};
use prost::Message;

/// (message or enum, field or value, number, type, label) of everything in a schema.
fn layout(folder: &str) -> BTreeSet<(String, String, i32, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = protox::compile(["perito/v1/task.proto"], [root]).unwrap();
    let mut layout = BTreeSet::new();
    for file in files.file {
        for message in &file.message_type {
            for field in &message.field {
                let kind = format!("{:?} {:?} {}", field.r#type(), field.label(), field.type_name());
                layout.insert((message.name().to_owned(), field.name().to_owned(), field.number(), kind));
            }
        }
        for constants in &file.enum_type {
            for value in &constants.value {
                layout.insert((constants.name().to_owned(), value.name().to_owned(), value.number(), String::new()));
            }
        }
    }
    layout
}

#[test]
fn nothing_of_the_schema_before_is_gone_or_changed() {
    let (before, now) = (layout("tests/before"), layout("."));
    assert!(before.len() >= 11, "{before:?}");
    let lost: Vec<_> = before.difference(&now).collect();
    assert!(lost.is_empty(), "the release before has these, and reads them so: {lost:#?}");
    // A number has one meaning.
    for (message, name, number, _) in &now {
        let other = now.iter().find(|other| &other.0 == message && other.2 == *number && &other.1 != name);
        assert!(other.is_none(), "{message}: {name} and {other:?} share the number {number}");
    }
}

fn message() -> TaskMessage {
    TaskMessage {
        schema_version: 1,
        job_id: vec![0x11; 16],
        task_id: vec![0x22; 16],
        kind: TaskKind::Score.into(),
        attempt_hint: 3,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    }
}

/// [`message`] as version 1 was first written.
fn bytes() -> Vec<u8> {
    let mut bytes = vec![0x08, 1, 0x12, 16];
    bytes.extend([0x11; 16]);
    bytes.extend([0x1a, 16]);
    bytes.extend([0x22; 16]);
    bytes.extend([0x20, 2, 0x28, 3, 0x32, 55]);
    bytes.extend(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    bytes
}

#[test]
fn bytes_of_version_1_mean_what_they_meant() {
    assert_eq!(TaskMessage::decode(bytes().as_slice()).unwrap(), message());
    assert_eq!(message().encode_to_vec(), bytes());
}

#[test]
fn fields_of_a_later_release_are_passed_over_and_missing_ones_are_empty() {
    // Field 15 as a number, field 100 as a text.
    let later: Vec<u8> = bytes().into_iter().chain([0x78, 42, 0xa2, 0x06, 2, b'h', b'i']).collect();
    assert_eq!(TaskMessage::decode(later.as_slice()).unwrap(), message());
    // Before traces there was no field 6.
    let earlier = &bytes()[..bytes().len() - 57];
    assert_eq!(TaskMessage::decode(earlier).unwrap(), TaskMessage { traceparent: String::new(), ..message() });
}
