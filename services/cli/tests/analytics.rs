//! Exports and archives against real servers, and the pages that are made from the database.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use perito_cli::{
    destination::{Destination, Target},
    export::export,
    progress::Progress,
    report,
    retention::{Action, Archiver, plan},
};
use perito_database::{ArchiveState, Extract, RowFilter, testing::TestDatabase};
use perito_domain::month::Month;
use perito_objects::{ObjectStore, ObjectStoreOptions};
use perito_tables::{CellReader, Format};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A database with nights of runs, four months of them.
async fn generated() -> TestDatabase {
    let test = TestDatabase::migrated().await;
    let mut connection = PgConnection::connect(&test.url).await.unwrap();
    let sizes = "set bench.images = 500; set bench.predictions = 12000; set bench.nights = 100;";
    let sql = std::fs::read_to_string(root().join("deploy/bench/generate.sql")).unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("{sizes}{sql}"))).execute(&mut connection).await.unwrap();
    test
}

async fn bucket() -> (ObjectStore, String) {
    rustls_provider();
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"));
    let endpoint = variable("PERITO_S3_ENDPOINT").parse().unwrap();
    let mut options = ObjectStoreOptions::new(Some(endpoint), variable("PERITO_S3_REGION"));
    options.access_key_id = Some(variable("PERITO_S3_ACCESS_KEY_ID"));
    options.secret_access_key = Some(variable("PERITO_S3_SECRET_ACCESS_KEY"));
    let store = ObjectStore::new(options).unwrap();
    let bucket = format!("test-{}", uuid::Uuid::new_v4().simple());
    store.ensure_bucket(&bucket).await.unwrap();
    (store, bucket)
}

fn rustls_provider() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(perito_runtime::install_crypto_provider);
}

async fn text(test: &TestDatabase, sql: &str) -> String {
    sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(sql.to_owned()))
        .fetch_one(test.pool())
        .await
        .unwrap()
        .unwrap_or_default()
}

async fn extract(test: &TestDatabase, view: &str) -> Extract {
    let views = test.database.views().await.unwrap();
    views.iter().find(|known| known.name == view).unwrap().extract(&RowFilter::default()).unwrap()
}

/// The page as it should be is the page as it is. With PERITO_WRITE_PAGES it is written instead: that is `make dictionary`.
fn is_current(path: &str, page: &str) {
    let path = root().join(path);
    if std::env::var_os("PERITO_WRITE_PAGES").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "{} is not current: run `make dictionary`, and commit it", path.display());
}

#[tokio::test]
async fn the_data_dictionary_is_current() {
    let test = TestDatabase::migrated().await;
    is_current("docs/reference/data-dictionary.md", &report::dictionary(&test.database.views().await.unwrap()));
}

#[test]
fn the_query_gallery_is_current() {
    let folder = "docs/reference/query-gallery";
    let mut page = String::from(
        "# Query gallery\n\n\
         Questions that analysts ask, each with a query that runs as it is: `psql -f FILE`, or pasted into any tool. They read the views of the\n\
         [data dictionary](../data-dictionary.md) and nothing else. Tests run each of them with the analyst's rights; `make bench-sql` times\n\
         them on generated data.\n\n\
         This page is made from the files beside it by `make dictionary`.\n",
    );
    let mut files: Vec<_> =
        std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "sql"));
    files.sort();
    for path in files {
        let sql = std::fs::read_to_string(&path).unwrap();
        let comment: Vec<_> = sql.lines().map_while(|line| line.strip_prefix("--")).map(str::trim).collect();
        let query: Vec<_> = sql.lines().skip(comment.len()).collect();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(comment[0].ends_with(['?', ')']), "{name} begins with the question that it answers");
        page.push_str(&format!(
            "\n## {}\n\n[{name}]({name}){}\n\n```sql\n{}\n```\n",
            comment[0],
            if comment.len() > 1 { format!("\n{}", comment[1..].join("\n")) } else { String::new() },
            query.join("\n")
        ));
    }
    is_current(&format!("{folder}/README.md"), &page);
}

#[tokio::test]
async fn a_view_goes_into_a_file_or_an_object_whole() {
    let (test, (store, bucket)) = (generated().await, bucket().await);
    let wanted = extract(&test, "predictions").await;
    let total: u64 = text(&test, "select count(*)::text from analytics.predictions").await.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let progress = Progress::unknown("exporting");
    let to = async |target: Target, format, what: &Extract| {
        let destination = Destination::open(&target, "application/octet-stream", || Ok(store.clone())).unwrap();
        export(&test.database, what, format, destination, &progress).await
    };

    let path = folder.path().join("scores.parquet");
    let (rows, written) = to(Target::File(path.clone()), Format::Parquet, &wanted).await.unwrap();
    assert_eq!((rows, written.bytes), (total, std::fs::metadata(&path).unwrap().len()));
    let read: Vec<_> = CellReader::open(&path, wanted.columns()).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len() as u64, total);
    // Cell by cell what a query gives.
    let mut direct = Vec::new();
    let each = async |batch| {
        direct.extend(batch);
        Ok::<_, perito_database::Error>(())
    };
    test.database.extract_rows(&wanted, each).await.unwrap();
    let sorted = |mut rows: Vec<_>| {
        rows.sort_by_cached_key(|row| format!("{row:?}"));
        rows
    };
    assert_eq!(sorted(read), sorted(direct));

    let object = Target::Object { bucket: bucket.clone(), key: "reports/scores.csv".to_owned() };
    let (rows, written) = to(object, Format::Csv, &wanted).await.unwrap();
    let csv = store.get(&bucket, "reports/scores.csv", None, 1 << 30).await.unwrap();
    assert_eq!((rows, written.bytes), (total, csv.len() as u64));
    let lines: Vec<_> = std::str::from_utf8(&csv).unwrap().lines().collect();
    assert!(lines[0].starts_with("job_id,image_id,claim_id,bucket,key,severity,p_minor"), "{}", lines[0]);
    assert_eq!(lines.len() as u64, total + 1);

    // What fails half way leaves nothing.
    sqlx::raw_sql(
        "create view analytics.broken as select 1 / (3000 - n) as n from generate_series(1, 5000) n;
         grant select on analytics.broken to perito_analyst",
    )
    .execute(test.pool())
    .await
    .unwrap();
    let broken = extract(&test, "broken").await;
    for (format, name) in [(Format::Parquet, "broken.parquet"), (Format::Csv, "broken.csv")] {
        let failed = to(Target::File(folder.path().join(name)), format, &broken).await.unwrap_err();
        assert!(format!("{failed:#}").contains("division by zero"), "{failed:#}");
    }
    let object = Target::Object { bucket: bucket.clone(), key: "broken.parquet".to_owned() };
    to(object, Format::Parquet, &broken).await.unwrap_err();
    assert!(!store.exists(&bucket, "broken.parquet").await.unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_month_leaves_and_comes_back_as_it_was() {
    let (test, (store, bucket)) = (generated().await, bucket().await);
    let database = &test.database;
    let today = chrono::Utc::now().date_naive();
    let steps = plan(database, "1month".parse().unwrap(), today).await.unwrap();
    assert!(steps.len() >= 4 && steps[0].action == Action::Archive, "{steps:?}");
    assert!(steps.iter().all(|step| step.month != Month::of(today) || step.action == Action::Keep));
    let month = steps[0].month;
    let rows = format!(
        "select md5(string_agg(p::text, ' ' order by job_id, image_id)) from predictions p where to_char(run_date, 'YYYY-MM') = '{month}'"
    );
    let shown = "select md5(string_agg(s::text, ' ' order by image_id)) from analytics.image_severity s";
    let before = (text(&test, &rows).await, text(&test, shown).await);
    let begin = async || Archiver::begin(database.clone(), store.clone()).await.unwrap();
    let state = async || database.archives().await.unwrap().first().map(|archive| archive.state);
    let in_views =
        format!("select count(*)::text from analytics.predictions where to_char(run_date, 'YYYY-MM') = '{month}'");

    // The process dies after the month was detached.
    {
        let lock = database.lock_archives().await.unwrap();
        database.detach_month(&lock, month, &bucket, &format!("old/{month}")).await.unwrap();
    }
    assert_eq!(text(&test, &in_views).await, "0");
    let steps = plan(database, "10years".parse().unwrap(), today).await.unwrap();
    assert_eq!(steps[0].action, Action::GoOn(ArchiveState::Detached), "whatever the age is now");

    // And the next one after it was stored; then somebody overwrites the copy.
    let manifest = {
        let archiver = begin().await;
        archiver.archive(month, &bucket, "old").await.unwrap();
        database.archives().await.unwrap()[0].manifest.clone().unwrap()
    };
    assert_eq!(state().await, Some(ArchiveState::Archived));
    let table = format!("select to_regclass('archive.predictions_{}')::text", month.to_string().replace('-', "_"));
    assert_eq!(text(&test, &table).await, "", "the table is dropped");
    let key = manifest["predictions"]["key"].as_str().unwrap();
    let good = store.get(&bucket, key, None, 1 << 30).await.unwrap();
    assert!(store.exists(&bucket, &format!("old/{month}/manifest.json")).await.unwrap());
    store.put(&bucket, key, good.slice(..good.len() - 1), "application/octet-stream").await.unwrap();
    let refused = begin().await.restore(month).await.unwrap_err();
    assert!(format!("{refused:#}").contains("SHA-256"), "{refused:#}");
    assert_eq!((text(&test, &in_views).await, state().await), ("0".to_owned(), Some(ArchiveState::Archived)));

    store.put(&bucket, key, good.clone(), "application/octet-stream").await.unwrap();
    let restored = begin().await.restore(month).await.unwrap();
    let there = format!("select count(*)::text from predictions where to_char(run_date, 'YYYY-MM') = '{month}'");
    assert_eq!(restored.to_string(), text(&test, &there).await);
    assert_ne!(text(&test, &in_views).await, "0");
    assert_eq!((text(&test, &rows).await, text(&test, shown).await), before);
    assert_eq!(state().await, None);

    // A copy that is damaged before the table is dropped is noticed, and made again.
    {
        let lock = database.lock_archives().await.unwrap();
        database.detach_month(&lock, month, &bucket, &format!("old/{month}")).await.unwrap();
        database.archive_stored(&lock, month, Some(&manifest)).await.unwrap();
        store.put(&bucket, key, good.slice(1..), "application/octet-stream").await.unwrap();
    }
    let refused = begin().await.archive(month, &bucket, "old").await.unwrap_err();
    assert!(format!("{refused:#}").contains("kept in Postgres"), "{refused:#}");
    assert_eq!(state().await, Some(ArchiveState::Detached));
    begin().await.archive(month, &bucket, "old").await.unwrap();
    assert_eq!(state().await, Some(ArchiveState::Archived));
    begin().await.restore(month).await.unwrap();
    assert_eq!((text(&test, &rows).await, text(&test, shown).await), before);
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts_and_comes_down_in_parts() {
    let (store, bucket) = bucket().await;
    let bytes: Vec<u8> = (0..40_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut upload = store.upload(&bucket, "large", "application/octet-stream");
    for piece in bytes.chunks(1 << 20) {
        upload.write(piece).await.unwrap();
    }
    assert!(!store.exists(&bucket, "large").await.unwrap(), "it shows when it is whole");
    upload.complete().await.unwrap();
    let (mut found, mut parts) = (Vec::new(), 0);
    let each = async |part: bytes::Bytes| {
        parts += 1;
        found.extend_from_slice(&part);
        Ok::<_, perito_objects::Error>(())
    };
    store.download(&bucket, "large", each).await.unwrap();
    assert!(found == bytes && parts == 5, "{parts} parts, {} bytes", found.len());
}
