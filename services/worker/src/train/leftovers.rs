//! Checkpoints of tasks that nobody will go on with.
//!
//! Each training task that ends on a worker removes all there are: its own, those of workers that were killed between a commit and
//! this, and uploads of killed workers that the store finished later.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use super::checkpoint::{ROOT, delete};
use crate::service::Context;

/// How long checkpoints of failed and cancelled tasks stay: time to mend what was wrong, and go on.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Objects looked at in one round. Keys begin with the time of their job, so the oldest come first.
const LIMIT: usize = 10_000;
const DELETIONS_AT_ONCE: usize = 8;

/// Removes them. What cannot be removed is logged and stays for the next time.
pub(crate) async fn remove(context: &Context) {
    let listed = context.objects.list(&context.bucket, ROOT).take(LIMIT).try_collect::<Vec<_>>().await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => return tracing::warn!(error = %error, "listing old checkpoints failed"),
    };
    let mut keys = BTreeMap::<Uuid, Vec<String>>::new();
    for object in listed {
        if let Some(task) = task_of(&object.key) {
            keys.entry(task).or_default().push(object.key);
        }
    }
    let tasks: Vec<Uuid> = keys.keys().copied().collect();
    let closed = match context.database.closed_tasks(&tasks, KEEP).await {
        Ok(closed) => closed,
        Err(error) => return tracing::warn!(error = %error, "looking for old checkpoints failed"),
    };
    let keys: Vec<String> = closed.iter().filter_map(|task| keys.remove(task)).flatten().collect();
    for some in keys.chunks(DELETIONS_AT_ONCE) {
        futures::future::join_all(some.iter().map(|key| delete(context, key))).await;
    }
}

/// The task that a key below [`ROOT`] belongs to.
fn task_of(key: &str) -> Option<Uuid> {
    key.strip_prefix(ROOT)?.split('/').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_task() {
        let (job, task) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(task_of(&format!("checkpoints/{job}/{task}/000001-00000002-0001/complete.json")), Some(task));
        for other in ["checkpoints/readme.txt", "checkpoints/a/b/c", "models/1/model.safetensors"] {
            assert_eq!(task_of(other), None, "{other}");
        }
    }
}
