//! Two versions of models on the same images.

use chrono::{DateTime, Utc};
use perito_domain::{
    audit::Person,
    metrics::mcnemar::McNemarTest,
    names::{DatasetRef, ModelRef},
    spec::Split,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Api, Repeat, Result, client::set};

/// Two versions on the same images.
#[derive(Debug, Clone, Deserialize)]
pub struct Comparison {
    /// The one version.
    pub champion: Contender,
    /// The other one.
    pub challenger: Contender,
    /// The dataset version.
    pub dataset: String,
    /// The part of it.
    pub split: Split,
    /// How many images both graded.
    pub images: u64,
    /// How many images only one of them graded.
    pub left_out: u64,
    /// Images on which both were right.
    pub both_right: u64,
    /// Images on which only the champion was right.
    pub only_champion_right: u64,
    /// Images on which only the challenger was right.
    pub only_challenger_right: u64,
    /// Images on which both were wrong.
    pub both_wrong: u64,
    /// Whether they differ by more than chance.
    pub mcnemar: McNemar,
    /// When it was first asked for.
    pub compared_at: DateTime<Utc>,
}

/// One of the two versions of a comparison.
#[derive(Debug, Clone, Deserialize)]
pub struct Contender {
    /// The version.
    pub model: String,
    /// Its accuracy on the split.
    pub accuracy: f64,
    /// Its macro F1 on the split.
    pub macro_f1: f64,
}

/// McNemar's test.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct McNemar {
    /// The form of it.
    pub test: McNemarTest,
    /// Its statistic.
    pub statistic: f64,
    /// Its probability.
    pub p_value: f64,
}

/// Stored comparisons.
#[derive(Debug, Clone, Deserialize)]
pub struct ComparisonList {
    /// The newest first.
    pub comparisons: Vec<Comparison>,
}

impl Api {
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
}
