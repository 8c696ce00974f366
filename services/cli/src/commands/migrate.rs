//! `perito migrate`

use clap::Args;
use perito_database::{Database, DatabaseOptions};
use perito_runtime::DatabaseArgs;
use serde_json::json;

use super::Context;

/// Brings the database's schema up to date.
#[derive(Debug, Args)]
#[command(
    after_help = "Safe to run again and beside running services: what is applied already is left alone.\nWith --json: {\"applied\": N}"
)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(context: &Context, args: MigrateArgs) -> anyhow::Result<()> {
    let database = Database::connect(&DatabaseOptions {
        url: args.database.url()?.expose().to_owned(),
        control_connections: 2,
        bulk_connections: 1,
    })
    .await?;
    let applied = database.migrate().await?;
    context.output.document(&json!({ "applied": applied }), || match applied {
        0 => "the schema is up to date".to_owned(),
        1 => "applied 1 migration".to_owned(),
        applied => format!("applied {applied} migrations"),
    })
}
