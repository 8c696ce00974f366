//! `perito-worker predict`, the real binary on real files, without a server in sight.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use image::{Rgb, RgbImage};
use perito_domain::{preprocessing::Preprocessing, spec::JobSpec};
use perito_nets::{DeviceRequest, Trainer};
use serde_json::{Value, json};

const SIDE: u32 = 32;

/// A network that has learned nothing: what it says is of no account here, only that it says so.
fn model(path: &Path) {
    let spec = json!({"kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4", "image_size": SIDE});
    let JobSpec::Train(spec) = JobSpec::parse(spec).unwrap() else { panic!() };
    let device = DeviceRequest::Cpu.resolve().unwrap();
    let trainer = Trainer::new(&spec, &Preprocessing::imagenet(SIDE), [1; 3], None, device).unwrap();
    fs::write(path, trainer.weights().unwrap()).unwrap();
}

fn photograph(path: &Path, red: u8) {
    RgbImage::from_fn(320, 240, |x, y| Rgb([red, x as u8, y as u8])).save(path).unwrap();
}

fn predict(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perito-worker"));
    command.env_clear().current_dir(folder).args(["predict", "--device", "cpu"]).args(arguments).output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn photographs_become_rows_and_bad_ones_rows_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    model(&folder.join("model.safetensors"));
    fs::create_dir(folder.join("claims")).unwrap();
    for number in 0..11 {
        photograph(&folder.join(format!("claims/{number:02}.jpg")), number * 20);
    }

    let good = predict(folder, &["--model", "model.safetensors", "claims", "--format", "json", "--batch-size", "4"]);
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    let good = rows(&good);
    assert_eq!((good.len(), &good[3]["path"]), (11, &json!("claims/03.jpg")));
    for row in &good {
        let sum: f64 = ["p_minor", "p_moderate", "p_severe"].iter().map(|of| row[of].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{row}");
        assert!(row["reason"].is_null() && row["severity"].is_string());
    }

    fs::write(folder.join("claims/05.jpg"), &fs::read(folder.join("claims/05.jpg")).unwrap()[..900]).unwrap();
    fs::write(folder.join("claims/07.jpg"), "").unwrap();
    let arguments = ["--model", "model.safetensors", "claims", "gone.jpg", "--output", "grades.csv"];
    let some = predict(folder, &arguments);
    assert_eq!(some.status.code(), Some(3), "{}", String::from_utf8_lossy(&some.stderr));
    let grades = fs::read_to_string(folder.join("grades.csv")).unwrap();
    let lines: Vec<&str> = grades.lines().collect();
    assert_eq!((lines.len(), lines[0]), (13, "path,severity,p_minor,p_moderate,p_severe,reason,detail"));
    for (line, part) in
        [(6, "claims/05.jpg,,,,,corrupt,"), (8, "claims/07.jpg,,,,,empty,"), (12, "gone.jpg,,,,,missing,")]
    {
        assert!(lines[line].starts_with(part), "{}", lines[line]);
    }
    // The others are graded as before, whatever shares their batch.
    let p_severe: f64 = lines[5].split(',').nth(4).unwrap().parse().unwrap();
    assert!((p_severe - good[4]["p_severe"].as_f64().unwrap()).abs() < 1e-5);
}

#[test]
fn what_is_wrong_is_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    model(&folder.join("model.safetensors"));
    photograph(&folder.join("car.png"), 9);
    fs::write(folder.join("text.safetensors"), "no weights").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    // Eight bytes of length, an empty header: a safetensors file that says nothing.
    fs::write(folder.join("bare.safetensors"), [&2_u64.to_le_bytes()[..], b"{}"].concat()).unwrap();
    for (arguments, code, part) in [
        (vec!["--model", "none.safetensors", "car.png"], 1, "none.safetensors"),
        (vec!["--model", "text.safetensors", "car.png"], 1, "not a safetensors file"),
        (vec!["--model", "bare.safetensors", "car.png"], 1, "add --arch"),
        (vec!["--model", "bare.safetensors", "--arch", "cnn4", "car.png"], 1, "tensor layer1.conv.weight is missing"),
        (vec!["--model", "model.safetensors", "--arch", "resnet18", "car.png"], 1, "is a cnn4"),
        (vec!["--model", "model.safetensors", "--preprocessing", "9", "car.png"], 1, "preprocessing contract 9"),
        (vec!["--model", "model.safetensors", "empty"], 1, "no photographs below empty"),
        (vec!["--model", "model.safetensors"], 2, "<PATH>"),
        (vec!["car.png"], 2, "--model"),
    ] {
        let refused = predict(folder, &arguments);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(part), "{arguments:?}: {told}");
    }
}
