//! Pictures against torchvision's and Pillow's: see `golden/generate.py`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use image::RgbImage;
use perito_vision::{
    Limits, Pixels, adjust,
    crop::{self, Rectangle},
    decode, resize, warp,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
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

/// What may differ: the largest difference of a value, and the share of values that differ by more than 1/255.
struct Tolerance {
    largest: u8,
    share: f64,
}

fn tolerance(case: &Case) -> Tolerance {
    let (largest, share) = match case.function.as_str() {
        "mirror" | "erase" | "brightness" | "contrast" | "saturation" => (0, 0.0),
        // The filters' fixed-point sums round differently here and there.
        "resize" | "resized_crop" => (1, 0.0),
        // Pillow walks along rows in steps of 1/65536 pixel: a few pixels whose position lies on an edge fall on its other side.
        "rotate" | "perspective" => (0, 0.0),
        // Two JPEG decoders have two inverse cosine transforms; colours at half size are also enlarged differently.
        "decode" => match case.source.as_str() {
            "full.jpg" | "grey.jpg" | "cmyk.jpg" => (2, 0.01),
            source if source.ends_with(".jpg") => (8, 0.15),
            _ => (0, 0.0),
        },
        other => panic!("no function {other}"),
    };
    Tolerance { largest, share }
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
        "decode" => return decode(&read(&case.source), &Limits::default()).unwrap().into_raw(),
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
    for case in golden.cases {
        let (made, expected) = (made(&case), picture(&case.expected).into_raw());
        assert_eq!(made.len(), expected.len(), "{}", case.expected);
        let differences = || made.iter().zip(&expected).map(|(one, other)| one.abs_diff(*other));
        let largest = differences().max().unwrap();
        let over = differences().filter(|&difference| difference > 1).count() as f64 / made.len() as f64;
        let tolerance = tolerance(&case);
        if largest > tolerance.largest || over > tolerance.share {
            wrong.push(format!("{}: largest {largest}, over 1: {:.3} %", case.expected, over * 100.0));
        }
        *checked.entry(case.function).or_insert(0) += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let functions = [
        "brightness",
        "contrast",
        "decode",
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
