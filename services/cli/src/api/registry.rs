//! Requests about aliases, comparisons, deletions and labels.

use perito_domain::{
    audit::{Person, Signature},
    names::{DatasetRef, ModelRef, Name},
    spec::Split,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Api, Repeat, Result,
    types::{
        BadRows, Comparison, ComparisonList, DeletedModel, FromLabels, Frozen, History, Label, LabelsRecorded,
        MeasurementList, Model,
    },
};

/// What has to hold before an alias moves.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// Where the two versions are compared.
    pub dataset: Option<DatasetRef>,
    /// The part of it.
    pub split: Option<Split>,
    /// How far below the macro F1 may be.
    pub margin: Option<f64>,
    /// Moves the alias in any case.
    pub force: bool,
}

impl Api {
    /// Points an alias to a version.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is no such version, `Refused` when the gate says no.
    pub async fn promote(
        &self,
        name: &str,
        version: i32,
        alias: &Name,
        gate: &Gate,
        signature: &Signature,
    ) -> Result<Model> {
        let path = ["models", name, "aliases", alias.as_str()];
        let mut body = json!({ "version": version, "force": gate.force });
        set(&mut body, "dataset", gate.dataset.as_ref().map(ToString::to_string));
        set(&mut body, "split", gate.split.map(Split::as_str));
        set(&mut body, "margin", gate.margin);
        sign(&mut body, signature);
        self.send(self.request(Method::PUT, &path, Repeat::Safe).with(body)).await
    }

    /// Points an alias back to the version before the last promotion.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when there is no way back, or another version than `holder` has it now.
    pub async fn roll_back(&self, name: &Name, alias: &Name, holder: i32, signature: &Signature) -> Result<Model> {
        let path = ["models", name.as_str(), "aliases", alias.as_str(), "rollback"];
        let mut body = json!({ "from_version": holder });
        sign(&mut body, signature);
        self.send(self.request(Method::POST, &path, Repeat::Unsafe).with(body)).await
    }

    /// Where a model's aliases have pointed.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when no model ever had that name.
    pub async fn history(&self, name: &Name, alias: Option<&Name>) -> Result<History> {
        let mut request = self.request(Method::GET, &["models", name.as_str(), "history"], Repeat::Safe);
        if let Some(alias) = alias {
            request.url.query_pairs_mut().append_pair("alias", alias.as_str());
        }
        self.send(request).await
    }

    /// Compares two versions.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when one has not been measured there.
    pub async fn compare(
        &self,
        champion: &ModelRef,
        challenger: &ModelRef,
        dataset: &DatasetRef,
        split: Option<Split>,
        by: Option<&Person>,
    ) -> Result<Comparison> {
        let mut body = json!({ "champion": champion, "challenger": challenger, "dataset": dataset });
        set(&mut body, "split", split.map(Split::as_str));
        set(&mut body, "by", by.map(Person::as_str));
        self.send(self.request(Method::POST, &["comparisons"], Repeat::Safe).with(body)).await
    }

    /// Stored comparisons with a version of this model.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn comparisons(&self, name: &str) -> Result<ComparisonList> {
        let mut request = self.request(Method::GET, &["comparisons"], Repeat::Safe);
        request.url.query_pairs_mut().append_pair("name", name);
        self.send(request).await
    }

    /// What is known of how well a version does.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is no such version.
    pub async fn measurements(&self, reference: &str) -> Result<MeasurementList> {
        self.send(self.request(Method::GET, &["models", reference, "measurements"], Repeat::Safe)).await
    }

    /// Deletes a version that nothing uses. Its weights are for the caller to remove.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when something uses it.
    pub async fn delete_model(&self, reference: &str, signature: &Signature) -> Result<DeletedModel> {
        let mut request = self.request(Method::DELETE, &["models", reference], Repeat::Safe);
        for (name, value) in [("by", signature.by()), ("reason", signature.reason())] {
            if let Some(value) = value {
                request.url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.send(request).await
    }

    /// Records or checks a batch of labels.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn record_labels(&self, labels: &[Label], bad_rows: BadRows) -> Result<LabelsRecorded> {
        let body = json!({ "labels": labels, "bad_rows": bad_rows });
        self.send(self.request(Method::POST, &["labels"], Repeat::Safe).with(body)).await
    }

    /// Freezes labels as a dataset.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn dataset_from_labels(&self, selection: &FromLabels) -> Result<Frozen> {
        // The same labels again are the same version.
        self.send(self.request(Method::POST, &["labels", "datasets"], Repeat::Safe).with(json!(selection))).await
    }
}

fn set(body: &mut Value, field: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body[field] = value.into();
    }
}

fn sign(body: &mut Value, signature: &Signature) {
    set(body, "by", signature.by());
    set(body, "reason", signature.reason());
}
