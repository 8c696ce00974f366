//! A dataset that is learned in seconds.

use perito_domain::Severity;
use serde_json::{Value, json};

use crate::{photographs::photograph, system::System};

/// Puts a labelled set of 48 training and 18 validation photographs into the bucket and freezes it as `small@1`.
pub async fn small(system: &System) -> Value {
    let draft = system.post("/v1/datasets", json!({ "name": "small" })).await;
    for (split, images) in [("training", 16_u64), ("validation", 6)] {
        for severity in Severity::ALL {
            let objects: Vec<_> = (0..images)
                .map(|number| {
                    let seed = number + if split == "training" { 0 } else { 1000 };
                    (format!("datasets/{split}/{severity}/{number}.jpg"), photograph(severity, seed, 96, 64))
                })
                .collect();
            let items: Vec<_> = system
                .register(&objects)
                .await
                .into_iter()
                .map(|id| json!({"image_id": id, "split": split, "label": severity}))
                .collect();
            system.post(&format!("/v1/datasets/{}/items", draft["id"]), json!({ "items": items })).await;
        }
    }
    system.post(&format!("/v1/datasets/{}/freeze", draft["id"]), json!({})).await
}
