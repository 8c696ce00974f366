//! Photographs as they come: every format, whole and broken.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use perito_domain::{
    failure::FailureReason,
    preprocessing::{self, Preprocessing},
};
use perito_vision::{Limits, Pixels, Scale, decode, preprocess, resize};

fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn halves() -> RgbImage {
    RgbImage::from_fn(40, 20, |x, _| if x < 20 { Rgb([250, 10, 10]) } else { Rgb([10, 10, 250]) })
}

/// Both decoders: exact, and libjpeg-turbo at a scale that none of these pictures is too small for.
const SCALES: [Scale; 2] = [Scale::Full, Scale::ReducedFor(100)];

fn reason(bytes: &[u8], limits: &Limits) -> FailureReason {
    let [exact, reduced] = SCALES.map(|scale| decode(bytes, scale, limits).unwrap_err().reason());
    assert_eq!(exact, reduced);
    exact
}

#[test]
fn every_kind_of_sample_becomes_8_bit_rgb() {
    let grey = encode(GrayImage::from_pixel(9, 7, Luma([90])), ImageFormat::Jpeg);
    let deep = ImageBuffer::<Rgb<u16>, _>::from_pixel(9, 7, Rgb([0x1234, 0x8000, 0xFFFF]));
    let deep = encode(DynamicImage::from(deep), ImageFormat::Png);
    let glass = encode(RgbaImage::from_pixel(9, 7, Rgba([200, 100, 50, 3])), ImageFormat::Png);
    let webp = encode(halves(), ImageFormat::WebP);
    for scale in SCALES {
        let pixel = |bytes: &[u8]| decode(bytes, scale, &Limits::default()).unwrap().get_pixel(3, 3).0;
        assert_eq!(pixel(&grey), [90, 90, 90]);
        assert_eq!(pixel(&deep), [0x12, 0x80, 0xFF]);
        assert_eq!(pixel(&glass), [200, 100, 50], "alpha is dropped");
        assert_eq!(pixel(&webp), [250, 10, 10]);
    }
}

/// The fixtures were written by Pillow: red on the left, blue on the right.
#[test]
fn cmyk_and_palettes_are_read_as_pillow_reads_them() {
    for bytes in [&include_bytes!("fixtures/cmyk.jpg")[..], include_bytes!("fixtures/palette.png")] {
        let picture = decode(bytes, Scale::Full, &Limits::default()).unwrap();
        assert_eq!(decode(bytes, Scale::ReducedFor(4), &Limits::default()).unwrap(), picture);
        for (position, expected) in [((3, 5), [230, 40, 30]), ((20, 5), [30, 60, 200])] {
            let found = picture.get_pixel(position.0, position.1).0;
            let near = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 4);
            assert!(near, "{found:?} at {position:?}, expected {expected:?}");
        }
    }
}

/// [`halves`], with an Exif segment (Exif 2.32, section 4.5.4) whose only entry is the orientation.
fn turned(orientation: u8) -> Vec<u8> {
    let jpeg = encode(halves(), ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
    exif[25] = orientation;
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn photographs_are_turned_upright() {
    let red_at = |orientation| {
        let [picture, other] = SCALES.map(|scale| decode(&turned(orientation), scale, &Limits::default()).unwrap());
        assert_eq!(picture.dimensions(), other.dimensions());
        let near = picture.iter().zip(other.iter()).all(|(one, other)| one.abs_diff(*other) <= 60);
        assert!(near, "the decoders' pictures are turned alike");
        let (width, height) = picture.dimensions();
        let is_red = |x: u32, y: u32| picture.get_pixel(x, y).0[0] > 150;
        (width > height, is_red(1, 1), is_red(width - 2, 1), is_red(1, height - 2))
    };
    // (still wide, red in the upper left, upper right, lower left corner)
    assert_eq!(red_at(1), (true, true, false, true));
    assert_eq!(red_at(3), (true, false, true, false), "half a turn");
    assert_eq!(red_at(6), (false, true, true, false), "a quarter clockwise: what was left is on top");
    assert_eq!(red_at(8), (false, false, false, true), "a quarter counter-clockwise: what was left is below");
}

/// A contract's picture of `side` pixels.
fn by(version: u32, bytes: &[u8], side: u32) -> Pixels {
    preprocess(bytes, &Preprocessing { version, ..Preprocessing::imagenet(side) }, &Limits::default()).unwrap()
}

/// The largest difference of two pictures' values.
fn apart(one: &Pixels, other: &Pixels) -> u8 {
    one.as_bytes().iter().zip(other.as_bytes()).map(|(one, other)| one.abs_diff(*other)).max().unwrap()
}

#[test]
fn planes_are_turned_upright_and_other_kinds_of_files_left_to_the_exact_decoder() {
    // At 8 pixels decoded in full, at 4 at half the size.
    for (orientation, side) in (1..=8).flat_map(|orientation| [(orientation, 8), (orientation, 4)]) {
        let jpeg = turned(orientation);
        let [exact, planes] = [preprocessing::EXACT, preprocessing::LOWEST].map(|version| by(version, &jpeg, side));
        let apart = apart(&exact, &planes);
        assert!(apart <= 24, "orientation {orientation} at {side} pixels: {apart}");
    }
    let png = encode(halves(), ImageFormat::Png);
    for bytes in [&include_bytes!("fixtures/cmyk.jpg")[..], include_bytes!("fixtures/palette.png"), &png] {
        assert_eq!(by(preprocessing::EXACT, bytes, 4), by(preprocessing::LOWEST, bytes, 4));
    }
    let grey = encode(GrayImage::from_pixel(90, 70, Luma([90])), ImageFormat::Jpeg);
    assert!(by(preprocessing::LOWEST, &grey, 8).as_bytes().iter().all(|&value| value == 90));
}

#[test]
fn broken_files_are_refused_with_their_reason() {
    let jpeg = encode(halves(), ImageFormat::Jpeg);
    let limits = Limits::default();
    assert_eq!(reason(b"", &limits), FailureReason::Empty);
    assert_eq!(reason(b"a text file named .jpg", &limits), FailureReason::Unsupported);
    assert_eq!(reason(&jpeg[..jpeg.len() * 2 / 3], &limits), FailureReason::Corrupt);
    let png = encode(halves(), ImageFormat::Png);
    assert_eq!(reason(&png[..png.len() / 2], &limits), FailureReason::Corrupt);
    let limits = Limits { max_pixels: 799, ..Limits::default() };
    assert_eq!(reason(&jpeg, &limits), FailureReason::TooManyPixels);
    let limits = Limits { max_bytes: 10, ..Limits::default() };
    assert_eq!(reason(&jpeg, &limits), FailureReason::TooLarge);
}

/// Slopes and a disc: nothing that a block's highest frequencies are needed for.
fn smooth(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let near = (f64::from(x) - f64::from(width) / 2.0).hypot(f64::from(y) - f64::from(height) / 2.0);
        let disc = 127.5 + 100.0 * (1.0 - near / f64::from(height / 3)).tanh();
        Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, disc as u8])
    })
}

#[test]
fn large_jpegs_come_out_smaller_and_alike() {
    let limits = Limits::default();
    let jpeg = encode(smooth(400, 301), ImageFormat::Jpeg);
    for (side, size) in
        [(224, (400, 301)), (76, (400, 301)), (75, (200, 151)), (38, (100, 76)), (19, (50, 38)), (1, (50, 38))]
    {
        let picture = decode(&jpeg, Scale::ReducedFor(side), &limits).unwrap();
        assert_eq!(picture.dimensions(), size, "for {side} pixels");
        let exact = by(preprocessing::EXACT, &jpeg, side);
        for version in [preprocessing::REDUCED, preprocessing::LOWEST] {
            let apart = apart(&exact, &by(version, &jpeg, side));
            assert!(apart <= 6, "version {version} at {side} pixels: {apart}");
        }
    }
    // Other formats have no scales.
    let png = encode(smooth(80, 60), ImageFormat::Png);
    assert_eq!(decode(&png, Scale::ReducedFor(4), &limits).unwrap().dimensions(), (80, 60));
}

/// libjpeg-turbo warns of such files and goes on; whether they are whole is the exact decoder's word.
#[test]
fn what_is_warned_of_is_judged_as_by_the_exact_contract() {
    let limits = Limits::default();
    let jpeg = encode(smooth(64, 48), ImageFormat::Jpeg);
    let scan = jpeg.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap();
    let mut wrong = jpeg.clone();
    wrong[scan + 40..scan + 60].fill(0xA5);
    // Stray bytes between two segments, as some cameras leave them.
    let stray = [&jpeg[..2], &[0; 5], &jpeg[2..]].concat();
    for bytes in [wrong, stray, jpeg[..scan + 40].to_vec()] {
        let [exact, reduced] = [Scale::Full, Scale::ReducedFor(8)].map(|scale| decode(&bytes, scale, &limits));
        assert_eq!(exact, reduced);
    }
}

#[test]
fn resizing_averages_and_keeps_flat_colours() {
    let flat = resize(&RgbImage::from_pixel(123, 77, Rgb([12, 200, 99])), 32).unwrap();
    assert!(flat.as_bytes().chunks(3).all(|pixel| pixel == [12, 200, 99]));
    // A chequerboard of single pixels becomes grey: antialiased, not sampled.
    let board = RgbImage::from_fn(256, 256, |x, y| if (x + y) % 2 == 0 { Rgb([255; 3]) } else { Rgb([0; 3]) });
    let small = resize(&board, 16).unwrap();
    assert!(small.as_bytes().iter().all(|&value| (120..=135).contains(&value)), "{:?}", &small.as_bytes()[..12]);
}

#[test]
fn an_unknown_contract_is_refused() {
    let contract = Preprocessing { version: 99, ..Preprocessing::imagenet(32) };
    assert!(preprocess(&encode(halves(), ImageFormat::Png), &contract, &Limits::default()).is_err());
}
