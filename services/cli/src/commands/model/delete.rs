//! `perito model delete`

use clap::Args;
use perito_domain::names::{ModelRef, ModelSelector};
use perito_runtime::ObjectStoreArgs;

use crate::{
    commands::{Context, signature::SignatureArgs},
    exit::Usage,
    store,
};

const DELETE_HELP: &str = "\
Refused while an alias points to it, a job is open, results or comparisons rest on it, or a model was trained from it: the refusal says which. Its
own training's measurement goes with it; its number is never given again. The weights are removed from the store last: when that fails, run it
again.

With --json: the API's answer

Example:
  perito model delete severity@2 --reason 'never used'";

/// Which version to delete.
#[derive(Debug, Args)]
#[command(after_help = DELETE_HELP)]
pub struct DeleteArgs {
    /// NAME@VERSION
    #[arg(value_name = "MODEL")]
    model: ModelRef,
    #[command(flatten)]
    signature: SignatureArgs,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, args: DeleteArgs) -> anyhow::Result<()> {
    let ModelSelector::Version(_) = args.model.selector else {
        return Err(Usage(format!("{} names no version: write {}@VERSION", args.model, args.model.name)).into());
    };
    let signature = args.signature.signature()?;
    // Whoever cannot reach the store should hear of it before anything is deleted.
    let store = store::connect(&args.store)?;
    let deleted = context.api.delete_model(&args.model.to_string(), &signature).await?;
    let weights = format!("s3://{}/{}", deleted.value.bucket, deleted.value.key);
    if deleted.value.shared_with.is_none() {
        store.delete(&deleted.value.bucket, &deleted.value.key).await?;
    }
    context.output.answer(&deleted, |deleted| match &deleted.shared_with {
        None => format!("{} is deleted, and so are its weights, {weights}", deleted.reference),
        Some(other) => {
            format!("{} is deleted; its weights, {weights}, are those of {other} too and stay", deleted.reference)
        }
    })
}
