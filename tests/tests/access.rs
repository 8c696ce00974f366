//! Who gets in, by the programs themselves.
#![allow(clippy::unwrap_used)]

use perito_domain::Severity;
use perito_tests::{System, models, photographs::photograph, system::free_address};
use serde_json::json;
use sqlx::Connection as _;

/// `perito` with this token, or none.
async fn perito(system: &mut System, token: Option<&str>, arguments: &[&str]) -> (i32, String, String) {
    system.variables.retain(|(name, _)| !name.starts_with("PERITO_TOKEN"));
    system.variables.extend(token.map(|token| ("PERITO_TOKEN".to_owned(), token.to_owned())));
    system.perito(arguments).await
}

#[tokio::test]
async fn the_first_token_comes_from_the_database_and_the_others_from_it() {
    let mut system = System::start().await;
    let (code, _, error) = perito(&mut system, None, &["job", "list"]).await;
    assert!(code == 7 && error.contains("PERITO_TOKEN"), "{code} {error}");

    let (code, admin, error) =
        perito(&mut system, None, &["token", "create", "ana", "--role", "admin", "--direct"]).await;
    assert_eq!(code, 0, "{error}");
    let admin = admin.trim();
    let (code, viewer, error) =
        perito(&mut system, Some(admin), &["token", "create", "eye", "--role", "viewer", "--expires-in", "1day"]).await;
    assert_eq!(code, 0, "{error}");
    let viewer = viewer.trim();

    let (code, _, error) = perito(&mut system, Some(viewer), &["job", "list"]).await;
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = perito(&mut system, Some(viewer), &["settings", "set", "--claim-confidence", "0.7"]).await;
    assert!(code == 7 && error.contains("needs the role admin") && error.contains("token eye"), "{code} {error}");

    // By a file, as a secret is mounted.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{admin}\n")).unwrap();
    let (code, list, error) =
        perito(&mut system, None, &["token", "list", "--token-file", file.path().to_str().unwrap()]).await;
    assert_eq!(code, 0, "{error}");
    for word in ["ana", "eye", "in force", "postgres:", "viewer"] {
        assert!(list.contains(word), "{word} in {list}");
    }
    let (code, ..) = perito(&mut system, Some(admin), &["token", "revoke", "eye"]).await;
    assert_eq!(code, 0);
    let (code, _, error) = perito(&mut system, Some(viewer), &["job", "list"]).await;
    assert!(code == 7 && error.contains("revoked") && !error.contains(viewer), "{code} {error}");
    let (code, _, error) = perito(&mut system, Some("hunter2"), &["job", "list"]).await;
    assert!(code == 1 && error.contains("PERITO_TOKEN") && !error.contains("hunter2"), "{code} {error}");
}

/// The script that the compose file and the local stack make their logins with.
#[tokio::test]
async fn the_script_of_logins_makes_each_service_a_member_of_its_role_alone_and_changes_passwords() {
    let system = System::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/logins.sql");
    let owner = &system.database.url;
    let make = async |passwords: &[(&str, &str)]| {
        let mut psql = tokio::process::Command::new("psql");
        let output = psql.args(["-Xqf", script, owner]).envs(passwords.iter().copied()).output().await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let login = async |service: &str, password: &str| {
        let (_, place) = owner.rsplit_once('@').unwrap();
        let url = format!("postgres://perito_{service}_1:{password}@{place}");
        sqlx::PgConnection::connect(&url).await
    };
    let (first, second) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
    let coordinator = ("PERITO_COORDINATOR_PASSWORD", first.as_str());
    let (done, said) = make(&[coordinator, ("PERITO_WORKER_PASSWORD", &first)]).await;
    assert!(done, "{said}");
    let (done, said) = make(&[coordinator, ("PERITO_WORKER_PASSWORD", &second)]).await;
    assert!(done, "{said}");
    let (done, said) = make(&[coordinator]).await;
    assert!(!done && said.contains("worker_password"), "{said}");

    assert!(login("worker", &first).await.is_err(), "the password before");
    for (service, password, other) in [("coordinator", &first, "worker"), ("worker", &second, "coordinator")] {
        let mut connection = login(service, password).await.unwrap();
        let is = |role: &str| format!("pg_has_role('perito_{role}', 'member')");
        let sql = format!(
            "select {} and not {} and not rolsuper and not rolcreaterole and not rolcreatedb from pg_roles where rolname = current_user",
            is(service),
            is(other)
        );
        let as_it_should_be: bool =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        assert!(as_it_should_be, "{service}");
    }
}

#[tokio::test]
async fn secrets_show_in_no_log_and_no_list_of_processes() {
    let mut system = System::start().await;
    // As mounted by an orchestrator; and everything is logged that there is.
    let folder = tempfile::tempdir().unwrap();
    for name in ["PERITO_AMQP_URL", "PERITO_S3_SECRET_ACCESS_KEY", "PERITO_TOKEN"] {
        let at = system.variables.iter().position(|(known, _)| known == name).unwrap();
        let (_, value) = system.variables.remove(at);
        let file = folder.path().join(name);
        std::fs::write(&file, format!("{value}\n")).unwrap();
        system.variables.push((format!("{name}_FILE"), file.to_str().unwrap().to_owned()));
        system.variables.push(("PERITO_LOG".to_owned(), "debug".to_owned()));
    }
    let secrets = |system: &System| {
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap().trim().to_owned();
        let token = read("PERITO_TOKEN").rsplit('_').next().unwrap().to_owned();
        let owner = system.database.url.split(['/', '@']).nth(2).unwrap().to_owned();
        [token, read("PERITO_S3_SECRET_ACCESS_KEY"), "hunter2".to_owned(), owner, "guest:guest".to_owned()]
    };
    let secrets = secrets(&system);
    let replica = system.run("perito-coordinator", &["--listen", &free_address()]);
    let worker = system.worker("w");
    let model = models::import(&system, "cheap").await;
    system.register(&[("a/1.jpg".to_owned(), photograph(Severity::Minor, 1, 64, 48))]).await;
    let job = system
        .submit(json!({"kind": "score", "model": model, "selection": {"by": "prefix", "bucket": system.bucket, "prefix": ""}}))
        .await;
    system.success_of(&job).await;
    let (code, out, error) = system.perito(&["--log", "debug", "job", "list"]).await;
    assert_eq!(code, 0, "{error}");
    // What fails says where, and not with what.
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "amqp://guest:hunter2-wrong@127.0.0.1:1/%2f").unwrap();
    let lost = system.run("perito-worker", &["--name", "lost", "--amqp-url-file", wrong.to_str().unwrap()]);
    let started = std::time::Instant::now();
    while !lost.log().contains("127.0.0.1:1") {
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "{}", lost.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (what, text) in [
        ("a worker's log", worker.log()),
        ("another one's log", lost.log()),
        ("a coordinator's log", replica.log()),
        ("perito's output", out + &error),
        ("a worker's arguments", worker.arguments()),
        ("a coordinator's arguments", replica.arguments()),
        ("another one's arguments", lost.arguments()),
    ] {
        assert!(!text.is_empty(), "{what}");
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} in {what}: {line:?}");
        }
    }
}

#[tokio::test]
async fn what_strangers_wrote_is_text_everywhere() {
    let mut system = System::start().await;
    let _worker = system.worker("w");
    let hostile = [
        "<script>alert(1)</script>",
        "'; drop table images; --",
        "=cmd()|' /C calc'!A0",
        "%2e%2e%2f%00 & \u{202e}gpj.exe",
        "$(touch owned) `id` {{7*7}} ${HOME} %s%n",
    ];
    let photo = photograph(Severity::Severe, 1, 64, 48);
    let mut images = Vec::new();
    for text in hostile {
        let key = format!("backlog/{text}/a.jpg");
        let put = system.objects.put(&system.bucket, &key, photo.clone(), "image/jpeg").await.unwrap();
        images.push(
            json!({"bucket": system.bucket, "key": key, "etag": put.etag, "size_bytes": photo.len(), "claim_id": text}),
        );
    }
    // Some stores take it; ours does not, so it will be missing, and nothing else.
    for key in ["../../../../etc/passwd", "/etc/passwd"] {
        images.push(
            json!({"bucket": system.bucket, "key": key, "etag": "e", "size_bytes": 10, "claim_id": "../../../etc"}),
        );
    }
    system.post("/v1/images", json!({ "images": images })).await;
    for control in ["a\u{1b}[2J", "a\nb", "a\0b"] {
        let image = json!({"bucket": system.bucket, "key": control, "etag": "e", "size_bytes": 1});
        let (status, problem) =
            system.request(reqwest::Method::POST, "/v1/images", Some(json!({"images": [image]}))).await;
        assert_eq!(status, 422, "{problem}");
    }

    let model = models::import(&system, "cheap").await;
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": ""});
    let spec = json!({"kind": "score", "model": model, "selection": selection, "failure_budget": 0.5});
    let job = system.submit(spec).await;
    system.success_of(&job).await;
    assert_eq!(system.count("select count(*) from images").await, 7);
    assert_eq!(system.scores(&job).await.len(), 5);
    assert_eq!(system.count("select count(*) from image_failures where reason = 'missing'").await, 2);

    // Exact, in the views and in files.
    let graded: Vec<String> = sqlx::query_scalar("select claim_id from analytics.claim_severity order by 1")
        .fetch_all(system.pool())
        .await
        .unwrap();
    let mut expected = hostile.map(str::to_owned);
    expected.sort_unstable();
    let mut graded_sorted = graded.clone();
    graded_sorted.sort_unstable();
    assert_eq!(graded_sorted, expected);
    for text in hostile {
        let condition = format!("claim_id={text}");
        let (code, csv, error) =
            system.perito(&["export", "predictions", "--where", &condition, "--format", "csv", "--to", "-"]).await;
        assert_eq!(code, 0, "{error}");
        let rows: Vec<csv::StringRecord> =
            csv::Reader::from_reader(csv.as_bytes()).into_records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1, "{text}: {csv}");
        assert!(rows[0].iter().any(|cell| cell == format!("backlog/{text}/a.jpg")), "{text}: {csv}");
    }

    // In a page that a browser may show.
    let id = system.post("/v1/models", json!({
        "name": "cheap", "architecture": "cnn4", "class_names": ["minor", "moderate", "severe"],
        "artifact": {"bucket": system.bucket, "key": "models/cheap.safetensors", "sha256": "0".repeat(64), "bytes": 10},
        "source": "<script>alert(1)</script> | [x](javascript:alert(1)) \u{1b}[2J",
    })).await["reference"].as_str().unwrap().to_owned();
    let (code, card, error) = system.perito(&["model", "card", &id]).await;
    assert_eq!(code, 0, "{error}");
    assert!(card.contains("\\<script>alert(1)\\</script> \\| \\[x]"), "{card}");
    let (code, shown, error) = system.perito(&["model", "show", &id]).await;
    assert_eq!(code, 0, "{error}");
    assert!(shown.contains("\\u{1b}[2J") && !shown.contains('\u{1b}'), "{shown}");
}
