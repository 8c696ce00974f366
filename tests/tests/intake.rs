//! Photographs on their way into the catalogue: manifests of each format, prefixes, and the object store's events.
#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, sync::Arc};

use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use parquet::{
    column::writer::ColumnWriter, data_type::ByteArray, file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};
use perito_domain::Severity;
use perito_tests::{System, photographs::photograph, system::PATIENCE};
use serde_json::{Value, json};

/// Puts photographs into the bucket, without registering them; their ETags.
async fn put(system: &System, keys: &[&str]) -> Vec<String> {
    let mut etags = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let bytes = photograph(Severity::Minor, number as u64, 64, 48);
        etags.push(system.objects.put(&system.bucket, key, bytes, "image/jpeg").await.unwrap().etag);
    }
    etags
}

fn write(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// A table of keys and claims.
fn parquet(folder: &tempfile::TempDir, rows: &[(&str, &str)]) -> PathBuf {
    let path = folder.path().join("tonight.parquet");
    let schema = "message m { required binary key (UTF8); required binary claim_id (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut columns = [
        rows.iter().map(|row| ByteArray::from(row.0)).collect::<Vec<_>>(),
        rows.iter().map(|row| ByteArray::from(row.1)).collect(),
    ]
    .into_iter();
    while let Some(mut column) = group.next_column().unwrap() {
        let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() else { unreachable!() };
        writer.write_batch(&columns.next().unwrap(), None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    path
}

async fn register(system: &System, arguments: &[&str]) -> (i32, Value, String) {
    let (code, out, err) = system.perito(&[&["--json", "images", "register"], arguments].concat()).await;
    (code, serde_json::from_str(&out).unwrap_or(Value::Null), err)
}

#[tokio::test]
async fn manifests_of_each_format_register_what_they_name() {
    let system = System::start().await;
    let keys = ["in/C1/a.jpg", "in/C1/b.jpg", "in/C2/ñ +.jpg", "in/C3/d.jpg"];
    let etags = put(&system, &keys).await;
    let folder = tempfile::tempdir().unwrap();

    // The ETag and the size of the second row are looked up; the third is not there; the fourth is wrong.
    let csv = write(
        &folder,
        "m.csv",
        &format!(
            "key,etag,size_bytes,claim_id,label\nin/C1/a.jpg,\"{}\",100,C-one,severe\nin/C1/b.jpg,,,,\nin/C9/none.jpg,,,,\nin/C1/b.jpg,,many,,\n",
            etags[0]
        ),
    );
    let refused = folder.path().join("refused.jsonl");
    let (code, told, err) =
        register(&system, &["--manifest", csv.to_str().unwrap(), "--refused", refused.to_str().unwrap()]).await;
    assert_eq!(
        (code, &told["rows"], &told["refused"], &told["new"]),
        (1, &json!(4), &json!(2), &json!(2)),
        "{told} {err}"
    );
    assert!(err.contains("line 4: there is no s3://") && err.contains("line 5: size_bytes \"many\""), "{err}");
    assert!(err.contains("2 of 4 photographs were refused"), "{err}");
    assert_eq!(std::fs::read_to_string(&refused).unwrap().lines().count(), 2);
    let claims = "select string_agg(claim_id || coalesce(label::text, ''), ' ' order by key) from images";
    let claims: String = sqlx::query_scalar(claims).fetch_one(system.pool()).await.unwrap();
    assert_eq!(claims, "C-onesevere C1");

    let lines = write(
        &folder,
        "m.jsonl",
        &format!("{}\n{}\n", json!({"key": keys[1]}), json!({"key": keys[2], "bucket": system.bucket})),
    );
    let (code, told, err) = register(&system, &["--manifest", lines.to_str().unwrap()]).await;
    assert_eq!((code, &told["new"], &told["known"]), (0, &json!(1), &json!(1)), "{told} {err}");

    let table = parquet(&folder, &[(keys[2], "C2"), (keys[3], "from the table")]);
    for (new, known) in [(1, 1), (0, 2)] {
        let (code, told, err) = register(&system, &["--manifest", table.to_str().unwrap()]).await;
        assert_eq!((code, &told["new"], &told["known"]), (0, &json!(new), &json!(known)), "{told} {err}");
    }
    let claim: String = sqlx::query_scalar("select claim_id from images where key = 'in/C3/d.jpg'")
        .fetch_one(system.pool())
        .await
        .unwrap();
    assert_eq!(claim, "from the table");

    // An object that was replaced: its manifest is out of date, and the next one makes it a new version.
    system.objects.put(&system.bucket, keys[0], b"another".to_vec(), "image/jpeg").await.unwrap();
    let old = write(&folder, "old.csv", &format!("key,etag\n{},{}\n", keys[0], etags[0]));
    let (code, _, err) = register(&system, &["--manifest", old.to_str().unwrap()]).await;
    assert!(code == 1 && err.contains("the manifest is out of date"), "{code} {err}");
    let fresh = write(&folder, "fresh.csv", &format!("key,photographer\n{},me\n", keys[0]));
    let (code, _, err) = register(&system, &["--manifest", fresh.to_str().unwrap()]).await;
    assert!(code == 1 && err.contains("unknown field `photographer`"), "{code} {err}");
    let arguments = ["--manifest", fresh.to_str().unwrap(), "--ignore-other-columns"];
    let (code, told, err) = register(&system, &arguments).await;
    assert_eq!((code, &told["new"], &told["superseded"]), (0, &json!(1), &json!(1)), "{told} {err}");
}

#[tokio::test]
async fn a_prefix_gives_claims_by_pattern_and_refuses_what_no_catalogue_takes() {
    let system = System::start().await;
    // The longest key that the tests' object store takes.
    let long = format!("in/{}.jpg", "C".repeat(122));
    put(&system, &["in/C1_1.jpg", "in/C2_1.jpg", &long]).await;
    let (code, told, err) = register(&system, &["--prefix", "in/", "--claim-pattern", "^(?<claim>.*)$"]).await;
    assert_eq!(
        (code, &told["images"], &told["refused"], &told["new"]),
        (1, &json!(3), &json!(1), &json!(2)),
        "{told} {err}"
    );
    assert!(err.contains("claim_id has 129 bytes: expected 1 to 128"), "{err}");
    let (code, out, err) = system.perito(&["images", "backlog"]).await;
    assert!(code == 0 && out.contains(&system.bucket) && out.contains(" 2 "), "{out} {err}");
    let (code, out, err) = system.perito(&["settings", "set", "--claim-confidence", "0.75"]).await;
    assert!(code == 0 && out.contains("0.75"), "{out} {err}");
    let (_, missing, err) = register(&system, &["--manifest", "/nowhere/m.csv"]).await;
    assert!(missing.is_null() && err.contains("/nowhere/m.csv: open: No such file"), "{err}");
}

/// From the store's message to the catalogue: the coordinator's own binary, watching the bucket.
#[tokio::test]
async fn events_of_the_object_store_register_and_remove() {
    let mut system = System::start().await;
    let listen = perito_tests::system::free_address();
    let watch = format!("{}/in/", system.bucket);
    let arguments = ["--listen", &listen, "--s3-events", &watch, "--claim-pattern", "in/(?<claim>[^/]+)/"];
    let coordinator = system.run("perito-coordinator", &arguments);

    let connection = Connection::connect(&system.broker().url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let topology = system.topology();
    let waiting = async |queue: String| {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let asked = connection.create_channel().await.unwrap();
        asked.queue_declare(queue.into(), passive, FieldTable::default()).await
    };
    let started = std::time::Instant::now();
    // Its consumer comes after its binding to the exchange.
    while waiting(topology.store_events()).await.map_or(0, |queue| queue.consumer_count()) == 0 {
        assert!(started.elapsed() < PATIENCE, "{}", coordinator.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let publish = async |message: &Value| {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let bytes = message.to_string();
        let exchange = topology.store_events().into();
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange, "".into(), options, bytes.as_bytes(), properties).await.unwrap().await.unwrap();
    };

    // MinIO's message.
    let bucket = &system.bucket;
    let minio = |name: &str, sequencer: &str| {
        json!({
            "EventName": name, "Key": format!("{bucket}/in/C 1/left.jpg"),
            "Records": [{
                "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "", "eventTime": "2026-03-01T07:00:00.000Z",
                "eventName": name, "userIdentity": {"principalId": "minio"},
                "requestParameters": {"principalId": "minio", "region": "", "sourceIPAddress": "10.0.0.1"},
                "responseElements": {"x-amz-request-id": "1875A5D0CD2B2A1F", "x-minio-origin-endpoint": "http://10.0.0.2:9000"},
                "s3": {
                    "s3SchemaVersion": "1.0", "configurationId": "Config",
                    "bucket": {"name": bucket, "ownerIdentity": {"principalId": "minio"}, "arn": format!("arn:aws:s3:::{bucket}")},
                    "object": {"key": "in%2FC+1%2Fleft.jpg", "size": 1024, "eTag": "5fc7298143efe1276d39a3466d4e255f-1",
                               "contentType": "image/jpeg", "userMetadata": {"content-type": "image/jpeg"}, "sequencer": sequencer},
                },
                "source": {"host": "10.0.0.1", "port": "", "userAgent": "MinIO (linux; amd64)"},
            }],
        })
    };
    // AWS's message.
    let aws = json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "mx-central-1", "eventTime": "2026-03-01T07:00:01.250Z",
        "eventName": "ObjectCreated:CompleteMultipartUpload", "userIdentity": {"principalId": "AWS:AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"},
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "photographs",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "A3NL1KOZZKExample"}, "arn": format!("arn:aws:s3:::{bucket}")},
            "object": {"key": "in/C%C3%B1/front+%2B+left.jpg", "size": 2048, "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                       "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko", "sequencer": "0055AED6DCD90281E5"},
        },
    }]});
    publish(&minio("s3:ObjectCreated:Put", "1875A5D0CD2B2A1F")).await;
    publish(&aws).await;
    publish(
        &json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-01T07:00:00.000Z", "Bucket": bucket}),
    )
    .await;
    publish(&json!({"hello": "world"})).await;
    let until = async |sql: &str, expected: i64| {
        let started = std::time::Instant::now();
        while system.count(sql).await != expected {
            assert!(started.elapsed() < PATIENCE, "{sql}: not {expected}\n{}", coordinator.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    until("select count(*) from images where superseded_at is null", 2).await;
    let found: Vec<(String, String, i64)> =
        sqlx::query_as("select key, claim_id, size_bytes from images order by size_bytes")
            .fetch_all(system.pool())
            .await
            .unwrap();
    let expected = [("in/C 1/left.jpg", "C 1", 1024), ("in/Cñ/front + left.jpg", "Cñ", 2048)];
    assert_eq!(found, expected.map(|(key, claim, size)| (key.to_owned(), claim.to_owned(), size)));
    publish(&minio("s3:ObjectRemoved:Delete", "1875A5D0CD2B2A20")).await;
    until("select count(*) from images where superseded_at is null", 1).await;
    while waiting(topology.store_events_dead_letter()).await.unwrap().message_count() != 1 {
        assert!(started.elapsed() < PATIENCE, "{}", coordinator.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(coordinator.log().contains("it has no Records"), "{}", coordinator.log());
}

#[tokio::test]
async fn the_sql_of_the_how_to_runs() {
    let system = System::start().await;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/how-to/feed-the-backlog.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut run = 0;
    for block in page.split("```sql\n").skip(1) {
        let statement = block.split("```").next().unwrap();
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(system.pool())
            .await
            .unwrap_or_else(|error| panic!("{statement}{error}"));
        run += 1;
    }
    assert_eq!(run, 5);
}
