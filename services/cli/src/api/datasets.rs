//! Datasets: drafts, and what they are frozen to.

use chrono::{DateTime, Utc};
use perito_domain::{
    Severity,
    names::{DatasetRef, Name},
    spec::Split,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, Repeat, Result};

/// A dataset version that is being filled.
#[derive(Debug, Clone, Deserialize)]
pub struct Draft {
    /// The number by which it is filled and frozen.
    pub id: i64,
}

/// One labelled image of a draft.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// The image's number in the catalogue.
    pub image_id: i64,
    /// What it is for.
    pub split: Split,
    /// What it shows.
    pub label: Severity,
}

/// A frozen version of a dataset.
#[derive(Debug, Clone, Deserialize)]
pub struct Dataset {
    /// `demo@2`
    pub reference: String,
    /// What has the same digest is the same dataset.
    pub digest: String,
    /// How many images it has.
    pub images: u64,
    /// How many of each kind.
    pub counts: Vec<Count>,
    /// When it was frozen.
    pub frozen_at: DateTime<Utc>,
    /// What it was made of, where its images do not tell.
    pub origin: Option<String>,
}

/// How many images of a dataset have one split and label.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Count {
    /// What they are for.
    pub split: Split,
    /// What they show.
    pub label: Severity,
    /// How many they are.
    pub images: u64,
}

/// What became of a draft.
#[derive(Debug, Clone, Deserialize)]
pub struct Frozen {
    /// The version.
    #[serde(flatten)]
    pub dataset: Dataset,
    /// Whether an older version has the same content and is this one.
    pub existing: bool,
}

/// The frozen versions of datasets.
#[derive(Debug, Clone, Deserialize)]
pub struct DatasetList {
    /// The newest first.
    pub datasets: Vec<Dataset>,
}

impl Api {
    /// Begins the next version of a dataset. `origin` says what it is made of, where its images do not tell.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn create_dataset(&self, name: &Name, origin: Option<&str>) -> Result<Draft> {
        let mut body = json!({ "name": name });
        if let Some(origin) = origin {
            body["origin"] = origin.into();
        }
        // A draft that nobody fills is removed by the coordinator after a day.
        self.send(self.request(Method::POST, &["datasets"], Repeat::Safe).with(body)).await
    }

    /// Adds a batch of labelled images to a draft.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn add_items(&self, draft: i64, items: &[Item]) -> Result<Value> {
        let path = ["datasets", &draft.to_string(), "items"];
        self.send(self.request(Method::POST, &path, Repeat::Safe).with(json!({ "items": items }))).await
    }

    /// Freezes a draft.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn freeze(&self, draft: i64) -> Result<Frozen> {
        self.send(self.request(Method::POST, &["datasets", &draft.to_string(), "freeze"], Repeat::Unsafe)).await
    }

    /// Every frozen version of every dataset.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn datasets(&self) -> Result<DatasetList> {
        self.send(self.request(Method::GET, &["datasets"], Repeat::Safe)).await
    }

    /// A frozen version of a dataset.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn dataset(&self, reference: &DatasetRef) -> Result<Dataset> {
        self.send(self.request(Method::GET, &["datasets", &reference.to_string()], Repeat::Safe)).await
    }
}
