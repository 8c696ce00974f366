//! `perito views`

use clap::Args;
use perito_database::{Database, DatabaseOptions, View};
use perito_runtime::DatabaseArgs;
use serde_json::json;

use super::Context;
use crate::{exit::Usage, report};

/// Lists the views for analysts, or the columns of one.
#[derive(Debug, Args)]
#[command(after_help = "\
Talks to Postgres, and shows what its role may read.
  perito views
  perito views predictions
  perito views --markdown > data-dictionary.md")]
pub struct ViewsArgs {
    /// The view, such as `predictions`; all of them when absent
    #[arg(value_name = "VIEW")]
    view: Option<String>,
    /// Writes a page with every view and column
    #[arg(long, conflicts_with = "view")]
    markdown: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(context: &Context, args: ViewsArgs) -> anyhow::Result<()> {
    let views = connect(&args.database).await?.views().await?;
    if args.markdown {
        return context.output.text(&report::dictionary(&views));
    }
    let shown: Vec<&View> = match &args.view {
        Some(name) => vec![find(&views, name)?],
        None => views.iter().collect(),
    };
    let document: Vec<_> = shown
        .iter()
        .map(|view| {
            let columns = view.columns.iter();
            let columns = columns.map(|c| json!({"name": c.name, "type": c.sql_type, "comment": c.comment}));
            json!({"view": view.name, "comment": view.comment, "columns": columns.collect::<Vec<_>>()})
        })
        .collect();
    context.output.document(&json!({ "views": document }), || match args.view {
        Some(_) => shown.iter().map(|view| report::view(view)).collect(),
        None => report::views(&views),
    })
}

/// A connection for one user's questions.
pub(super) async fn connect(args: &DatabaseArgs) -> anyhow::Result<Database> {
    let url = args.url()?.expose().to_owned();
    Ok(Database::connect(&DatabaseOptions { url, control_connections: 2, bulk_connections: 1 }).await?)
}

/// The view of this name, with or without its schema.
pub(super) fn find<'a>(views: &'a [View], name: &str) -> anyhow::Result<&'a View> {
    let bare = name.strip_prefix("analytics.").unwrap_or(name);
    let known = || views.iter().map(|view| view.name.as_str()).collect::<Vec<_>>().join(", ");
    views.iter().find(|view| view.name == bare).ok_or_else(|| match views {
        [] => {
            let hint = "is the database migrated, and the role a member of perito_analyst?";
            Usage(format!("there are no views that this role may read: {hint}")).into()
        }
        _ => Usage(format!("there is no view {name:?}: there are {}", known())).into(),
    })
}
