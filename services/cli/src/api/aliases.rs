//! Where a model's aliases point, and what has to hold before they move.

use chrono::{DateTime, Utc};
use perito_domain::{
    aliases::AliasAction,
    audit::Signature,
    names::{DatasetRef, Name},
    spec::Split,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    Api, Model, Repeat, Result,
    client::{set, sign},
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

/// The moves of a model's aliases.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// The newest first.
    pub moves: Vec<AliasMove>,
}

/// One move of an alias.
#[derive(Debug, Clone, Deserialize)]
pub struct AliasMove {
    /// The alias.
    pub alias: String,
    /// Why it moved.
    pub action: AliasAction,
    /// The version that held it before.
    pub from_version: Option<i32>,
    /// The version that it moved to.
    pub to_version: i32,
    /// Who moved it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub moved_at: DateTime<Utc>,
    /// Whether it moved without the gate's consent.
    pub forced: bool,
    /// What the gate compared.
    pub check: Option<GateCheck>,
}

/// What the gate compared.
#[derive(Debug, Clone, Deserialize)]
pub struct GateCheck {
    /// The dataset version.
    pub dataset: String,
    /// The part of it.
    pub split: Split,
    /// How far below the macro F1 was allowed to be.
    pub margin: f64,
    /// Macro F1 of the version that was promoted.
    pub macro_f1: f64,
    /// Macro F1 of the version before.
    pub former_macro_f1: f64,
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
}
