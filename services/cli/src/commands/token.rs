//! `perito token`

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use perito_domain::{access::Role, names::Name};
use perito_runtime::DatabaseArgs;
use serde_json::json;

use super::{Context, views::connect};
use crate::{exit::Usage, report};

/// Who may use the API.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token, and prints it: the only time that it is ever shown
    Create(CreateArgs),
    /// Lists the tokens: whose, what for, last used
    List,
    /// Revokes a token: the next request with it is refused
    Revoke(RevokeArgs),
}

const CREATE_HELP: &str = "\
Roles:
  viewer    reads
  operator  also submits and steers jobs, feeds the catalogue, keeps schedules
  admin     also promotes and deletes models, changes settings, and makes tokens

The first token is made where the database can be reached, with PERITO_DATABASE_URL:
  perito token create ana --role admin --direct > ~/.config/perito-token
  export PERITO_TOKEN_FILE=~/.config/perito-token
The others with it, over the API:
  perito token create nightly --role operator --expires-in 90days

Only the token goes to standard output. Only a digest of it is stored: who loses it needs another.";

/// A token to make.
#[derive(Debug, Args)]
#[command(after_help = CREATE_HELP)]
pub struct CreateArgs {
    /// Whose it is: a person, a script. Only one of a name is in force
    name: Name,
    /// What it is good for: viewer, operator or admin
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// How long it is good for, such as 90days; until it is revoked unless told
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    /// Makes it in the database itself rather than over the API: for the first token, and when all admins' are lost
    #[arg(long)]
    direct: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A token to revoke.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Its name
    name: Name,
}

pub(super) async fn run(context: &Context, command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => create(context, args).await,
        TokenCommand::List => context.output.answer(&context.api.tokens().await?, |list| report::tokens(&list.tokens)),
        TokenCommand::Revoke(args) => {
            let revoked = context.api.revoke_token(&args.name).await?;
            context.output.answer(&revoked, |token| format!("revoked {}", token.name))
        }
    }
}

async fn create(context: &Context, args: CreateArgs) -> anyhow::Result<()> {
    let expires_at = args.expires_in.map(end).transpose()?;
    if !args.direct {
        let made = context.api.create_token(&args.name, args.role, expires_at).await?;
        return context.output.answer(&made, |made| made.token.clone());
    }
    let database = connect(&args.database).await?;
    database.check_schema().await?;
    let (info, token) = database.create_token(&args.name, args.role, expires_at, None).await?;
    let token = token.expose();
    let document = json!({
        "token": token, "id": info.id, "name": info.name, "role": info.role, "created_at": info.created_at,
        "created_by": info.created_by, "expires_at": info.expires_at, "last_used_at": null, "revoked_at": null,
    });
    context.output.document(&document, || token)
}

fn end(after: Duration) -> anyhow::Result<DateTime<Utc>> {
    let far = || Usage("--expires-in: that is too far away".to_owned());
    Utc::now().checked_add_signed(chrono::Duration::from_std(after).map_err(|_| far())?).context(far())
}
