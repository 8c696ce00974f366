//! Bakes `git describe` into the version, so that lineage names the exact code.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
    };
    // Commits and branch switches change these files; a tarball has none of them.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| std::path::Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    // An image is built without .git: whoever builds it says what it is.
    println!("cargo:rerun-if-env-changed=PERITO_COMMIT");
    let told = std::env::var("PERITO_COMMIT").ok().filter(|commit| !commit.is_empty());
    let release = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match told.or_else(|| git(&["describe", "--always", "--tags", "--abbrev=12"])) {
        Some(commit) => format!("{release}+{commit}"),
        None => release,
    };
    println!("cargo:rustc-env=PERITO_VERSION={version}");
}
