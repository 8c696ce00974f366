use std::collections::BTreeMap;

use super::*;

const PLAN: Plan = Plan { training: 6, validation: 3, claims: 4, seed: 7 };

fn files(plan: &Plan) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    Synthesis::new(plan).write(folder.path(), |_| {}).unwrap();
    walkdir::WalkDir::new(folder.path())
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().strip_prefix(folder.path()).unwrap().to_owned(), fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
    let first = files(&PLAN);
    assert_eq!(first, files(&PLAN));
    assert_eq!(first.len(), Synthesis::new(&PLAN).len());
    let other = files(&Plan { seed: 8, ..PLAN });
    assert!(first.values().all(|bytes| !other.values().any(|stranger| stranger == bytes)));
}

#[test]
fn a_larger_set_begins_with_the_smaller_one() {
    let larger = files(&Plan { training: 9, validation: 6, claims: 5, ..PLAN });
    assert!(files(&PLAN).iter().all(|(path, bytes)| larger.get(path) == Some(bytes)));
}

#[test]
fn the_layout_is_what_uploads_expect() {
    let drawn = files(&PLAN);
    let below = |prefix: &str| drawn.keys().filter(|path| path.starts_with(prefix)).count();
    for class in ["01-minor", "02-moderate", "03-severe"] {
        assert_eq!((below(&format!("training/{class}")), below(&format!("validation/{class}"))), (2, 1));
    }
    assert!(below("backlog/claim-000004") >= 1);
    assert!(drawn.keys().any(|path| path.ends_with("backlog/claim-000001/photo-1.jpg")) || below("backlog") >= 4);
    for (path, bytes) in &drawn {
        let decoded = image::load_from_memory(bytes).unwrap();
        assert!(decoded.width() >= 240 && decoded.height() >= 240, "{}", path.display());
    }
}

/// How much damage changes the picture: the mean difference to the same photograph with the least damage.
#[test]
fn damage_grows_with_severity() {
    let mut totals = [0.0; CLASSES];
    for index in 0..12 {
        let pictures = Severity::ALL.map(|severity| {
            let mut rng = rng(1, Part::Training, index);
            let (scene, car, photo) = (Scene::sample(&mut rng), Car::sample(&mut rng), Photo::sample(&mut rng));
            // The same numbers for the camera's noise, so that only damage differs.
            let (mut blow, mut noise) = (self::rng(2, Part::Training, index), self::rng(3, Part::Training, index));
            let damage = Damage::sample(severity, &car, &mut blow);
            photo.take(&scene, &car, &damage, &mut noise).unwrap()
        });
        let mut noise = self::rng(3, Part::Training, index);
        let mut rng = rng(1, Part::Training, index);
        let (scene, car, photo) = (Scene::sample(&mut rng), Car::sample(&mut rng), Photo::sample(&mut rng));
        let unharmed = photo.take(&scene, &car, &Damage::none(), &mut noise).unwrap();
        for (total, picture) in totals.iter_mut().zip(&pictures) {
            let difference: u64 = picture.rgb.iter().zip(&unharmed.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            *total += difference as f64 / picture.rgb.len() as f64;
        }
    }
    let [minor, moderate, severe] = totals;
    assert!(minor > 0.0 && moderate > 1.5 * minor && severe > 1.5 * moderate, "{totals:?}");
}

/// Writes one picture with 8 photographs of each class in a row, to look at: `cargo test contact_sheet -- --ignored`.
#[test]
#[ignore = "writes a picture for people to look at"]
fn contact_sheet() {
    let (columns, cell) = (8, (240, 180));
    let mut sheet = image::RgbImage::new(columns * cell.0, 6 * cell.1);
    for row in 0..6 {
        for column in 0..columns {
            let severity = Severity::ALL[row as usize / 2];
            let index = u64::from(row * columns + column);
            let subject = Subject::Labelled { part: Part::Training, index, severity };
            let (bytes, _) = draw(7, subject).unwrap();
            let small = image::load_from_memory(&bytes).unwrap().thumbnail_exact(cell.0, cell.1).to_rgb8();
            image::imageops::replace(&mut sheet, &small, i64::from(column * cell.0), i64::from(row * cell.1));
        }
    }
    sheet.save(std::env::temp_dir().join("perito-contact-sheet.png")).unwrap();
}
