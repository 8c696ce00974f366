//! `perito images backlog`

use crate::{commands::Context, report};

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let backlog = context.api.backlog().await?;
    context.output.answer(&backlog, |backlog| report::backlog(&backlog.buckets))
}
