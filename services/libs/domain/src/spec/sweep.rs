//! The specification of a sweep: many training recipes, measured against each other.

use std::collections::BTreeMap;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    SpecError, TrainSpec,
    error::{check_concurrency, in_range},
    path::set_field,
    preset, read,
};
use crate::{
    limits::MAX_RUNS,
    random::{Purpose, rng},
};

/// Trains one recipe for each trial, measures them by macro F1, and trains and registers the best one.
///
/// Without folds, trials are measured on the dataset's validation split. With `folds`, its training split alone is divided, and each
/// trial is measured by the mean over as many runs, each on the part that it did not see (k-fold cross-validation); the validation
/// split then judges the winner alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// What all trials have in common: the fields of a training specification.
    pub train: Map<String, Value>,
    /// What they differ in.
    pub search: Search,
    /// Parts of the training split, 2 to 20. None: no cross-validation.
    #[serde(default)]
    pub folds: Option<u32>,
    /// The most runs that workers have at once, dispatched or running; as many as there is room for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// What the trials of a sweep differ in: fields of the training specification by their path, such as `optimizer.learning_rate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Search {
    /// Every combination of these values.
    Grid {
        /// The values of each field.
        fields: BTreeMap<String, Vec<Value>>,
    },
    /// So many combinations drawn at random (Bergstra and Bengio, 2012).
    Random {
        /// How many.
        trials: u32,
        /// Seed of the draws.
        #[serde(default)]
        seed: u64,
        /// Where each field's values are drawn from.
        fields: BTreeMap<String, Range>,
    },
}

/// Where a random search draws a field's values from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected { choices = [..] } or { low = .., high = .., log = true|false }"
)]
pub enum Range {
    /// One of these.
    Choices {
        /// The values.
        choices: Vec<Value>,
    },
    /// A number between two, uniformly, or with `log` uniformly by its logarithm.
    Numbers {
        /// The lowest one.
        low: f64,
        /// The highest one.
        high: f64,
        /// Whether orders of magnitude are what counts.
        #[serde(default)]
        log: bool,
    },
}

/// One recipe of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// What it does not have in common with the others, by path.
    pub parameters: Map<String, Value>,
    /// All of it.
    pub spec: TrainSpec,
}

impl SweepSpec {
    /// How many runs measure one trial.
    pub fn runs_per_trial(&self) -> u32 {
        self.folds.unwrap_or(1)
    }

    /// The recipes, in a fixed order.
    ///
    /// # Errors
    /// What is wrong with the first one that is wrong, or with the search.
    pub fn trials(&self) -> Result<Vec<Trial>, SpecError> {
        let combinations = match &self.search {
            Search::Grid { fields } => grid(fields)?,
            Search::Random { trials, seed, fields } => random(*trials, *seed, fields)?,
        };
        combinations.into_iter().map(|parameters| self.trial(parameters)).collect()
    }

    fn trial(&self, parameters: Map<String, Value>) -> Result<Trial, SpecError> {
        let mut fields = self.train.clone();
        for (path, value) in &parameters {
            set_field(&mut fields, path, value.clone())?;
        }
        let spec: TrainSpec = read(preset::complete(fields)?)?;
        spec.validate()?;
        Ok(Trial { parameters, spec })
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        self.folds.map_or(Ok(()), |folds| in_range("folds", folds, 2, 20))?;
        check_concurrency(self.concurrency)?;
        let trials = self.trials()?;
        let Some(first) = trials.first() else {
            return Err(SpecError::invalid("search.fields", "give no trial"));
        };
        let runs = trials.len() * self.runs_per_trial() as usize;
        if runs > MAX_RUNS {
            let problem = format!("give {runs} training runs ({} trials), at most {MAX_RUNS} may be", trials.len());
            return Err(SpecError::invalid("search.fields", problem));
        }
        let same = |other: &Trial| (&other.spec.model, &other.spec.dataset) == (&first.spec.model, &first.spec.dataset);
        let weights = |other: &Trial| {
            other.spec.weights == first.spec.weights && other.spec.architecture == first.spec.architecture
        };
        if !trials.iter().all(same) || !trials.iter().all(weights) {
            return Err(SpecError::invalid(
                "search.fields",
                "trials have one model, dataset, architecture and weights in common",
            ));
        }
        Ok(())
    }
}

fn grid(fields: &BTreeMap<String, Vec<Value>>) -> Result<Vec<Map<String, Value>>, SpecError> {
    let size = fields.values().try_fold(1_usize, |size, values| size.checked_mul(values.len()));
    if size.is_none_or(|size| size > MAX_RUNS) {
        return Err(SpecError::invalid("search.fields", format!("give more than {MAX_RUNS} combinations")));
    }
    let mut combinations = vec![Map::new()];
    for (path, values) in fields {
        combinations = combinations
            .into_iter()
            .flat_map(|combination| {
                values.iter().map(move |value| {
                    let mut longer = combination.clone();
                    longer.insert(path.clone(), value.clone());
                    longer
                })
            })
            .collect();
    }
    Ok(combinations)
}

fn random(trials: u32, seed: u64, fields: &BTreeMap<String, Range>) -> Result<Vec<Map<String, Value>>, SpecError> {
    in_range("search.trials", trials as usize, 1, MAX_RUNS)?;
    (0..trials)
        .map(|trial| {
            let drawn = (0..).zip(fields).map(|(index, (path, range))| {
                let mut rng = rng(seed, Purpose::Search, trial.into(), index);
                let field = format!("search.fields.{path}");
                let value = match range {
                    Range::Choices { choices } if choices.is_empty() => {
                        return Err(SpecError::invalid(&field, "has no choices"));
                    }
                    Range::Choices { choices } => choices[rng.random_range(0..choices.len())].clone(),
                    &Range::Numbers { low, high, log } => {
                        let least = if log { f64::MIN_POSITIVE } else { f64::MIN };
                        in_range(&field, low, least, f64::MAX)?;
                        in_range(&field, high, low, f64::MAX)?;
                        let number = if log {
                            rng.random_range(low.ln()..=high.ln()).exp()
                        } else {
                            rng.random_range(low..=high)
                        };
                        Value::from(number)
                    }
                };
                Ok((path.clone(), value))
            });
            drawn.collect()
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;
    use serde_json::json;

    fn sweep(search: Value, folds: Value) -> Result<SweepSpec, SpecError> {
        let train = json!({"model": "m", "dataset": "d", "architecture": "cnn4", "optimizer": {"momentum": 0.5}});
        match JobSpec::parse(json!({"kind": "sweep", "train": train, "search": search, "folds": folds}))? {
            JobSpec::Sweep(spec) => Ok(*spec),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_grid_is_every_combination() {
        let fields = json!({"optimizer.learning_rate": [0.1, 0.01], "epochs": [1, 2, 3]});
        let trials = sweep(json!({"name": "grid", "fields": fields}), Value::Null).unwrap().trials().unwrap();
        assert_eq!(trials.len(), 6);
        let pairs: Vec<_> =
            trials.iter().map(|trial| (trial.spec.epochs, trial.spec.optimizer.learning_rate())).collect();
        assert_eq!(pairs, [(1, 0.1), (1, 0.01), (2, 0.1), (2, 0.01), (3, 0.1), (3, 0.01)]);
        assert_eq!(Value::Object(trials[3].parameters.clone()), json!({"epochs": 2, "optimizer.learning_rate": 0.01}));
        // The rest of the object stays.
        assert!(format!("{:?}", trials[0].spec.optimizer).contains("momentum: 0.5"));
    }

    #[test]
    fn a_random_search_draws_from_its_ranges_and_repeats_itself() {
        let search = json!({"name": "random", "trials": 200, "seed": 3, "fields": {
            "optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": true},
            "dropout": {"low": 0.2, "high": 0.4},
            "batch_size": {"choices": [16, 32]},
        }});
        let trials = sweep(search.clone(), json!(5)).unwrap().trials().unwrap();
        assert_eq!(trials, sweep(search, json!(5)).unwrap().trials().unwrap());
        assert_eq!(trials.len(), 200);
        let small = trials.iter().filter(|trial| trial.spec.optimizer.learning_rate() < 10_f64.powf(-2.5)).count();
        assert!((70..130).contains(&small), "half of the draws by orders of magnitude: {small}");
        assert!(trials.iter().all(|trial| (0.2..=0.4).contains(&trial.spec.dropout)));
        assert!(
            trials.iter().any(|trial| trial.spec.batch_size == 16)
                && trials.iter().any(|trial| trial.spec.batch_size == 32)
        );
    }

    #[test]
    fn what_is_wrong_is_named_before_anything_is_trained() {
        let grid = |fields: Value| json!({"name": "grid", "fields": fields});
        for (search, folds, part) in [
            (grid(json!({"epochs": [1, 0]})), Value::Null, "epochs: is 0"),
            (grid(json!({"epoch": [1]})), Value::Null, "epoch"),
            (grid(json!({"epochs": []})), Value::Null, "no trial"),
            (grid(json!({"model": ["a", "b"]})), Value::Null, "in common"),
            (grid(json!({"architecture.x": [1]})), Value::Null, "architecture is not an object"),
            (grid(json!({"seed": (0..300).collect::<Vec<_>>()})), json!(5), "1500 training runs"),
            (
                grid(json!({"seed": (0..100).collect::<Vec<_>>(), "epochs": (1..100).collect::<Vec<_>>()})),
                Value::Null,
                "1000",
            ),
            (grid(json!({"epochs": [1]})), json!(1), "folds"),
            (
                json!({"name": "random", "trials": 2, "fields": {"dropout": {"low": 0.5, "high": 0.1}}}),
                Value::Null,
                "dropout",
            ),
            (json!({"name": "random", "trials": 2, "fields": {"dropout": {"from": 0.5}}}), Value::Null, "choices"),
            (json!({"name": "random", "trials": 0, "fields": {}}), Value::Null, "search.trials"),
        ] {
            let refused = sweep(search.clone(), folds).unwrap_err().to_string();
            assert!(refused.contains(part), "{search}: {refused}");
        }
    }
}
