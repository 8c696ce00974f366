//! Pictures against torchvision's and Pillow's: see `golden/generate.py`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use image::RgbImage;
use perito_vision::{
    Limits, Pixels, Scale, adjust,
    crop::{self, Rectangle},
    decode, resize, warp,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Case {
    function: String,
    source: String,
    expected: String,
    side: Option<u32>,
    part: Option<[u32; 4]>,
    degrees: Option<f64>,
    factor: Option<f32>,
    corners: Option<[[f64; 2]; 4]>,
}

/// How far values, in 1/255, may be from those expected.
struct Tolerance {
    /// 99 % of them.
    most: u8,
    /// Each of them.
    largest: u8,
    /// On average.
    mean: f64,
}

fn tolerance(case: &Case) -> Tolerance {
    let (most, largest, mean) = match case.function.as_str() {
        // The resizer filters columns first and Pillow rows first, and both round to bytes in between: up to 23 % differ, by 1.
        "resize" | "resized_crop" => (1, 1, 0.24),
        // Two JPEG decoders have two inverse cosine transforms; colours of half the size are also enlarged with other roundings, and
        // differently at the lower rim.
        "decode" => match case.source.as_str() {
            "grey.jpg" | "cmyk.jpg" | "cmyk-unmarked.jpg" | "rgb.jpg" => (1, 1, 0.02),
            "full.jpg" | "ycck.jpg" => (1, 2, 0.03),
            source if source.ends_with(".jpg") => (3, 8, 0.5),
            _ => (0, 0, 0.0),
        },
        // Pillow decodes by libjpeg-turbo too. Inks are left to the exact decoder.
        "decode by libjpeg-turbo" => match case.source.as_str() {
            "cmyk.jpg" | "cmyk-unmarked.jpg" => (1, 1, 0.02),
            "ycck.jpg" => (1, 2, 0.03),
            _ => (0, 0, 0.0),
        },
        _ => (0, 0, 0.0),
    };
    Tolerance { most, largest, mean }
}

fn read(file: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)).unwrap()
}

fn picture(file: &str) -> RgbImage {
    image::load_from_memory(&read(file)).unwrap().into_rgb8()
}

fn square(file: &str) -> Pixels {
    let picture = picture(file);
    Pixels::new(picture.width(), picture.into_raw()).unwrap()
}

fn made(case: &Case) -> Vec<u8> {
    let part = || {
        let [left, top, width, height] = case.part.unwrap();
        Rectangle { left, top, width, height }
    };
    let made = match case.function.as_str() {
        "decode" => return decode(&read(&case.source), Scale::Full, &Limits::default()).unwrap().into_raw(),
        "decode by libjpeg-turbo" => {
            return decode(&read(&case.source), Scale::ReducedFor(100), &Limits::default()).unwrap().into_raw();
        }
        "resize" => resize(&picture(&case.source), case.side.unwrap()).unwrap(),
        "resized_crop" => crop::resized_crop(&square(&case.source), part(), case.side.unwrap()).unwrap(),
        "mirror" => adjust::mirror(&square(&case.source)),
        "rotate" => warp::rotate(&square(&case.source), case.degrees.unwrap()),
        "brightness" => adjust::brightness(&square(&case.source), case.factor.unwrap()),
        "contrast" => adjust::contrast(&square(&case.source), case.factor.unwrap()),
        "saturation" => adjust::saturation(&square(&case.source), case.factor.unwrap()),
        "perspective" => {
            let whole = [[0.0, 0.0], [63.0, 0.0], [63.0, 63.0], [0.0, 63.0]];
            let projection = warp::projection(whole, case.corners.unwrap()).unwrap();
            warp::perspective(&square(&case.source), projection)
        }
        "erase" => crop::erase(&square(&case.source), part()),
        other => panic!("no function {other}"),
    };
    made.as_bytes().to_vec()
}

#[test]
fn pictures_equal_torchvisions_and_pillows() {
    let golden: Golden = serde_json::from_slice(&read("cases.json")).unwrap();
    let mut checked = BTreeMap::new();
    let mut wrong = Vec::new();
    let cases = golden.cases.into_iter().flat_map(|case| {
        // Both decoders have to make of a file what Pillow does.
        let other = (case.function == "decode")
            .then(|| Case { function: "decode by libjpeg-turbo".to_owned(), ..case.clone() });
        [case].into_iter().chain(other)
    });
    for case in cases {
        let (made, expected) = (made(&case), picture(&case.expected).into_raw());
        assert_eq!(made.len(), expected.len(), "{}", case.expected);
        let mut differences: Vec<u8> = made.iter().zip(&expected).map(|(one, other)| one.abs_diff(*other)).collect();
        differences.sort_unstable();
        let (most, largest) = (differences[differences.len() * 99 / 100], differences[differences.len() - 1]);
        let mean = differences.iter().copied().map(f64::from).sum::<f64>() / differences.len() as f64;
        let tolerance = tolerance(&case);
        if most > tolerance.most || largest > tolerance.largest || mean > tolerance.mean {
            wrong.push(format!(
                "{} of {}: 99 % within {most}, largest {largest}, mean {mean:.4}",
                case.expected, case.source
            ));
        }
        *checked.entry(case.function).or_insert(0) += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let functions = [
        "brightness",
        "contrast",
        "decode",
        "decode by libjpeg-turbo",
        "erase",
        "mirror",
        "perspective",
        "resize",
        "resized_crop",
        "rotate",
        "saturation",
    ];
    assert!(checked.keys().eq(functions.iter()), "{checked:?}");
}
