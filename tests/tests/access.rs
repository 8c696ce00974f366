//! Who gets in, by the programs themselves.
#![allow(clippy::unwrap_used)]

use perito_tests::System;

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
