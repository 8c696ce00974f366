//! Synthetic photographs: drawn cars with damage that grows with severity.
//!
//! | module | holds |
//! |---|---|
//! | [`car`] | an undamaged car |
//! | [`damage`] | what a blow of some severity does to it |
//! | [`scene`] | where it stands |
//! | [`photo`] | camera, light, noise, encoding |
//! | [`brush`] | shapes and colours on a canvas |
//!
//! Every file is a function of the seed and its place in the set, whatever thread draws it: the same seed gives the same bytes.
//! To add a kind of damage: a function in [`damage`] that adds marks as the level grows.

mod brush;
mod car;
mod damage;
mod photo;
mod scene;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use perito_domain::{
    Severity,
    random::{self, Purpose},
    severity::CLASSES,
};
use rand::{Rng, RngExt};
use rayon::prelude::*;

use car::Car;
use damage::Damage;
use photo::{Format, Photo};
use scene::Scene;

/// How much to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Photographs in `training/`, a third of each class.
    pub training: u32,
    /// Photographs in `validation/`, a third of each class.
    pub validation: u32,
    /// Claims in `backlog/`, of 1 to 6 photographs each.
    pub claims: u32,
    /// Another seed draws other cars.
    pub seed: u64,
}

/// Random numbers of one part of the set never depend on the size of another.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
enum Part {
    Training = 0,
    Validation = 1,
    Claim = 2,
    ClaimPhoto = 3,
}

/// A file to be drawn.
#[derive(Debug, Clone)]
struct Task {
    path: PathBuf,
    subject: Subject,
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    /// A car of its own.
    Labelled { part: Part, index: u64, severity: Severity },
    /// One of the photographs of a claim: the same car in the same place.
    Claim { claim: u64, photo: u64 },
}

/// How many photographs a claim may have.
const MAX_CLAIM_PHOTOS: u64 = 6;

/// The photographs of a plan: how many there are, and drawing them.
#[derive(Debug)]
pub struct Synthesis {
    seed: u64,
    tasks: Vec<Task>,
}

impl Synthesis {
    /// What a plan comes to.
    pub fn new(plan: &Plan) -> Self {
        let mut tasks = Vec::new();
        for (part, folder, count) in
            [(Part::Training, "training", plan.training), (Part::Validation, "validation", plan.validation)]
        {
            for index in 0..u64::from(count) {
                let class = index as usize % CLASSES;
                let severity = Severity::ALL[class];
                let name = format!("{folder}/{:02}-{severity}/car-{:05}", class + 1, index + 1);
                tasks.push(Task { path: name.into(), subject: Subject::Labelled { part, index, severity } });
            }
        }
        for claim in 0..u64::from(plan.claims) {
            let photos = rng(plan.seed, Part::Claim, claim).random_range(1..=MAX_CLAIM_PHOTOS);
            for photo in 0..photos {
                let name = format!("backlog/claim-{:06}/photo-{}", claim + 1, photo + 1);
                tasks.push(Task { path: name.into(), subject: Subject::Claim { claim, photo } });
            }
        }
        Self { seed: plan.seed, tasks }
    }

    /// How many photographs it has.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Draws all of them below `folder`, on every core; calls `drawn` with the size of each file.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, folder: &Path, drawn: impl Fn(u64) + Sync) -> anyhow::Result<()> {
        self.tasks.par_iter().try_for_each(|task| {
            let (bytes, extension) = draw(self.seed, task.subject)?;
            let path = folder.join(&task.path).with_extension(extension);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent).with_context(|| format!("make the folder {}", parent.display()))?;
            fs::write(&path, &bytes).with_context(|| format!("write {}", path.display()))?;
            drawn(bytes.len() as u64);
            Ok(())
        })
    }
}

fn rng(seed: u64, part: Part, index: u64) -> impl Rng {
    random::rng(seed, Purpose::Synthesis, part as u64, index)
}

/// One file: its bytes and its extension.
fn draw(seed: u64, subject: Subject) -> anyhow::Result<(Vec<u8>, &'static str)> {
    match subject {
        Subject::Labelled { part, index, severity } => {
            let mut rng = rng(seed, part, index);
            let (scene, car) = (Scene::sample(&mut rng), Car::sample(&mut rng));
            take(&scene, &car, severity, &mut rng)
        }
        Subject::Claim { claim, photo } => {
            let mut rng = self::rng(seed, Part::Claim, claim);
            // The first number said how many photographs there are.
            let _: u64 = rng.random_range(1..=MAX_CLAIM_PHOTOS);
            let severity = Severity::ALL[rng.random_range(0..CLASSES)];
            let (scene, car) = (Scene::sample(&mut rng), Car::sample(&mut rng));
            let mut rng = self::rng(seed, Part::ClaimPhoto, claim * MAX_CLAIM_PHOTOS + photo);
            take(&scene, &car, severity, &mut rng)
        }
    }
}

fn take(scene: &Scene, car: &Car, severity: Severity, rng: &mut impl Rng) -> anyhow::Result<(Vec<u8>, &'static str)> {
    let (photo, format) = (Photo::sample(rng), Format::sample(rng));
    let damage = Damage::sample(severity, car, rng);
    let pixels = photo.take(scene, car, &damage, rng).context("make a canvas")?;
    Ok((pixels.encode(format).context("encode a photograph")?, format.extension()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
