//! Postgres.

use std::time::SystemTime;

use perito_database::{Database, DatabaseOptions, ErrorKind};
use perito_runtime::{DatabaseArgs, secret::Secret};

use super::{Finding, Report};

/// The oldest major version that is supported.
const OLDEST: i32 = 15;
const VARIABLE: &str = "PERITO_DATABASE_URL";

/// Asks the database.
pub async fn examine(args: &DatabaseArgs) -> Vec<Finding> {
    let mut report = Report::new("postgres");
    let url = match Secret::find(VARIABLE, args.database_url_file.as_deref()) {
        Ok(Some(url)) => url,
        Ok(None) => {
            return report.skip(format!("{VARIABLE} is not set"), "set it as the services have it to look here too");
        }
        Err(error) => {
            report.fault("reach", error.to_string(), format!("mend the file, or set {VARIABLE}"));
            return report.findings;
        }
    };
    let options = DatabaseOptions { url: url.expose().to_owned(), control_connections: 1, bulk_connections: 1 };
    let database = match Database::connect(&options).await {
        Ok(database) => database,
        Err(error) => {
            let remedy = format!("see that Postgres runs, that this machine may connect, and that {VARIABLE} is right");
            report.fault("reach", error.to_string(), remedy);
            return report.findings;
        }
    };
    let asked = SystemTime::now();
    let found = match database.inspect().await {
        Ok(found) => found,
        Err(error) => {
            report.fault("reach", error.to_string(), "see the server's log");
            return report.findings;
        }
    };
    report.ok("reach", format!("as role {}", found.role));
    let version = format!("Postgres {}", found.server_version);
    if found.server_major < OLDEST {
        report.fault("version", version, format!("upgrade to Postgres {OLDEST} or later"));
    } else {
        report.ok("version", version);
    }
    report.clock(found.clock, asked, SystemTime::now(), 0.0);
    match database.check_schema().await {
        Ok(()) => report.ok("schema", "as this release wants it"),
        Err(error) if error.kind() == ErrorKind::Schema => {
            report.fault("schema", error.to_string(), "perito migrate, or the newer release's perito");
        }
        Err(error) => report.fault("schema", error.to_string(), "connect as the role that the services use"),
    }
    if found.unreadable.is_empty() {
        report.ok("rights", format!("{} reads all tables", found.role));
    } else {
        report.fault(
            "rights",
            format!("{} cannot read: {}", found.role, found.unreadable.join(", ")),
            "connect as a member of perito_coordinator or perito_worker, or as the owner",
        );
    }
    let (used, most) = (found.connections, found.max_connections);
    let connections = format!("{used} of {most} are in use");
    if used * 5 > most * 4 {
        let remedy = "raise max_connections, or lower PERITO_DATABASE_CONNECTIONS of the workers";
        report.warn("connections", connections, remedy);
    } else {
        report.ok("connections", connections);
    }
    report.findings
}
