//! S3's event messages: AWS, "Event message structure" in the S3 user guide; MinIO and others write the same with small differences.
//!
//! Names of events begin with `s3:` or not. Keys are encoded as in a URL's query: `+` is a space. A bucket without versions has
//! no `versionId`, an empty one, or `null`.

use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;
use perito_database::{NewImage, ObjectChange, ObjectEvent};
use perito_domain::{
    claims::ClaimRule,
    limits::{MAX_SEQUENCER_DIGITS, MAX_VERSION_ID_BYTES},
    photograph::media_type,
};
use serde::Deserialize;
use serde_json::Value;

use super::watched::{Interest, Watched, interest};

/// What one message says.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    /// What happened to photographs, in the message's order.
    pub events: Vec<ObjectEvent>,
    /// Records that need nothing to be done: other kinds of event, other objects.
    pub passed_over: u64,
    /// Why the message cannot be acted on, or not wholly.
    pub refused: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Records")]
    records: Option<Vec<Value>>,
    /// What AWS sends when notifications are set up.
    #[serde(rename = "Event")]
    event: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    event_time: DateTime<Utc>,
    s3: Place,
}

#[derive(Deserialize)]
struct Place {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    key: String,
    size: Option<i64>,
    e_tag: Option<String>,
    version_id: Option<String>,
    sequencer: Option<String>,
}

/// Reads a message. What can be acted on is kept, whatever else is in it.
pub fn parse(bytes: &[u8], watched: &[Watched], claims: &ClaimRule) -> Parsed {
    let mut parsed = Parsed::default();
    let message: Message = match serde_json::from_slice(bytes) {
        Ok(message) => message,
        Err(error) => return Parsed { refused: Some(format!("not an event message: {error}")), ..parsed },
    };
    match message {
        Message { records: Some(records), .. } => {
            for (index, record) in records.into_iter().enumerate() {
                match read(record, watched, claims) {
                    Ok(Some(event)) => parsed.events.push(event),
                    Ok(None) => parsed.passed_over += 1,
                    Err(reason) => parsed.refused = Some(format!("Records[{index}]: {reason}")),
                }
            }
        }
        Message { event: Some(event), .. } if event == "s3:TestEvent" => parsed.passed_over = 1,
        _ => parsed.refused = Some("not an event message: it has no Records".to_owned()),
    }
    parsed
}

/// What a record says; `None` when nothing is to be done about it.
fn read(record: Value, watched: &[Watched], claims: &ClaimRule) -> Result<Option<ObjectEvent>, String> {
    let Record { event_name, event_time, s3: Place { bucket, object } } =
        Record::deserialize(record).map_err(|error| error.to_string())?;
    let key = decode(&object.key)?;
    match interest(watched, &bucket.name, &key) {
        Interest::Unknown => return Err(format!("bucket {:?} is not among those that are watched", bucket.name)),
        Interest::PassedOver => return Ok(None),
        Interest::Taken if media_type(&key).is_none() => return Ok(None),
        Interest::Taken => {}
    }
    let name = event_name.strip_prefix("s3:").unwrap_or(&event_name);
    let (group, action) = name.split_once(':').unwrap_or((name, ""));
    let bucket = bucket.name;
    let change = match group {
        "ObjectCreated" => {
            let image = NewImage {
                claim_id: claims.claim_id(&key),
                etag: object.e_tag.ok_or("no eTag")?.trim_matches('"').to_owned(),
                size_bytes: object.size.ok_or("no size")?,
                label: None,
                bucket,
                key,
            };
            image.check().map_err(|error| error.to_string())?;
            ObjectChange::Created(image)
        }
        // Removed by somebody, or by a rule of the bucket.
        "ObjectRemoved" | "LifecycleExpiration" => {
            ObjectChange::Removed { bucket, key, marker: action == "DeleteMarkerCreated" }
        }
        _ => return Ok(None),
    };
    let sequencer = object.sequencer.filter(|sequencer| !sequencer.is_empty());
    if let Some(odd) = sequencer.as_ref().filter(|text| !is_sequencer(text)) {
        return Err(format!("sequencer {odd:?} is not 1 to {MAX_SEQUENCER_DIGITS} hexadecimal digits"));
    }
    let version_id = object.version_id.filter(|version| !version.is_empty() && version != "null");
    if version_id.as_ref().is_some_and(|id| id.len() > MAX_VERSION_ID_BYTES || id.chars().any(char::is_control)) {
        return Err(format!("versionId has more than {MAX_VERSION_ID_BYTES} bytes or control characters"));
    }
    Ok(Some(ObjectEvent { time: event_time, sequencer, version_id, change }))
}

fn is_sequencer(text: &str) -> bool {
    text.len() <= MAX_SEQUENCER_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn decode(key: &str) -> Result<String, String> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| "the key is not UTF-8 once it is decoded")?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As AWS writes it.
    fn aws(name: &str, bucket: &str, key: &str, object: Value) -> Value {
        let mut whole = json!({"key": key, "sequencer": "0055AED6DCD90281E5"});
        whole.as_object_mut().unwrap().extend(object.as_object().unwrap().clone());
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-west-2", "eventTime": "2026-03-01T07:00:00.123Z",
            "eventName": name, "userIdentity": {"principalId": "AIDA"},
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "c",
                   "bucket": {"name": bucket, "arn": format!("arn:aws:s3:::{bucket}")}, "object": whole},
        })
    }

    fn parsed(message: &Value) -> Parsed {
        parse(message.to_string().as_bytes(), &["claims/in/".parse().unwrap()], &ClaimRule::ParentFolder)
    }

    fn one(record: Value) -> Parsed {
        parsed(&json!({ "Records": [record] }))
    }

    #[test]
    fn a_new_object_is_a_photograph_whose_key_is_decoded() {
        let created = json!({"size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "versionId": ""});
        for (name, key) in [
            ("ObjectCreated:Put", "in/caf%C3%A9+7/front+%2B+left%25.jpg"),
            ("s3:ObjectCreated:CompleteMultipartUpload", "in%2Fcaf%C3%A9+7%2Ffront+%2B+left%25.jpg"),
        ] {
            let event = one(aws(name, "claims", key, created.clone())).events.remove(0);
            let ObjectChange::Created(image) = &event.change else { panic!("{event:?}") };
            assert_eq!(
                (image.key.as_str(), image.claim_id.as_deref()),
                ("in/café 7/front + left%.jpg", Some("café 7"))
            );
            assert_eq!((image.etag.len(), image.size_bytes), (32, 1024));
            assert_eq!((event.sequencer.as_deref(), event.version_id), (Some("0055AED6DCD90281E5"), None));
        }
    }

    #[test]
    fn removals_tell_markers_from_versions() {
        for (name, marker) in [
            ("ObjectRemoved:Delete", false),
            ("s3:ObjectRemoved:DeleteMarkerCreated", true),
            ("s3:LifecycleExpiration:Delete", false),
        ] {
            let event = one(aws(name, "claims", "in/c/1.jpg", json!({"versionId": "v7"}))).events.remove(0);
            let expected = ObjectChange::Removed { bucket: "claims".to_owned(), key: "in/c/1.jpg".to_owned(), marker };
            assert_eq!((event.change, event.version_id.as_deref()), (expected, Some("v7")));
        }
    }

    #[test]
    fn what_needs_nothing_done_is_passed_over() {
        let created = json!({"size": 1, "eTag": "e"});
        for (name, key) in [
            ("ObjectCreated:Put", "datasets/1.jpg"),
            ("ObjectCreated:Put", "in/c/notes.txt"),
            ("ObjectCreated:Put", "in/c/"),
            ("s3:ObjectAccessed:Get", "in/c/1.jpg"),
            ("ObjectRestore:Completed", "in/c/1.jpg"),
        ] {
            let expected = Parsed { passed_over: 1, ..Parsed::default() };
            assert_eq!(one(aws(name, "claims", key, created.clone())), expected, "{name} {key}");
        }
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-01T07:00:00.000Z", "Bucket": "claims"});
        assert_eq!(parsed(&test), Parsed { passed_over: 1, ..Parsed::default() });
        assert_eq!(parsed(&json!({"Records": []})), Parsed::default());
    }

    #[test]
    fn garbage_is_refused_with_its_reason() {
        let created = json!({"size": 1, "eTag": "e"});
        let long = "k".repeat(1100) + ".jpg";
        for (record, words) in [
            (aws("ObjectCreated:Put", "other", "in/1.jpg", created.clone()), "\"other\" is not among"),
            (aws("ObjectCreated:Put", "claims", "in/%ff.jpg", created.clone()), "not UTF-8"),
            (aws("ObjectCreated:Put", "claims", "in/%00.jpg", created.clone()), "U+0000"),
            (aws("ObjectCreated:Put", "claims", "in/c%0A7/1.jpg", created.clone()), "U+000A"),
            (aws("ObjectCreated:Put", "claims", &format!("in/{long}"), created.clone()), "expected 1 to 1024"),
            (aws("ObjectCreated:Put", "claims", "in/1.jpg", json!({"size": 1})), "no eTag"),
            (aws("ObjectCreated:Put", "claims", "in/1.jpg", json!({"eTag": "e"})), "no size"),
            (aws("ObjectCreated:Put", "claims", "in/1.jpg", json!({"eTag": "e", "size": -1})), "below 0"),
            (
                aws("ObjectCreated:Put", "claims", "in/1.jpg", json!({"eTag": "e", "size": 1, "sequencer": "x"})),
                "hexadecimal",
            ),
            (json!({"eventName": "ObjectCreated:Put"}), "missing field"),
            (json!(7), "invalid type"),
        ] {
            let reason = one(record).refused.unwrap();
            assert!(reason.starts_with("Records[0]: ") && reason.contains(words), "{reason}");
        }
        for bytes in [&b"\xff\xfe"[..], b"", b"[]", b"{}", b"{\"Records\": 7}"] {
            let refused = parse(bytes, &[], &ClaimRule::ParentFolder).refused.unwrap();
            assert!(refused.contains("not an event message"), "{refused}");
        }
    }

    #[test]
    fn one_bad_record_does_not_cost_the_others() {
        let good = |key: &str| aws("ObjectCreated:Put", "claims", key, json!({"size": 1, "eTag": "e"}));
        let parsed = parsed(&json!({"Records": [good("in/1.jpg"), 7, good("in/2.jpg")]}));
        assert_eq!(parsed.events.len(), 2);
        assert!(parsed.refused.unwrap().starts_with("Records[1]"));
    }
}
