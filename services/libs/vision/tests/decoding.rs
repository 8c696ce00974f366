//! Photographs as they come: every format, whole and broken.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use perito_domain::{failure::FailureReason, preprocessing::Preprocessing};
use perito_vision::{Limits, decode, preprocess, resize};

fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn halves() -> RgbImage {
    RgbImage::from_fn(40, 20, |x, _| if x < 20 { Rgb([250, 10, 10]) } else { Rgb([10, 10, 250]) })
}

fn reason(bytes: &[u8]) -> FailureReason {
    decode(bytes, &Limits::default()).unwrap_err().reason()
}

#[test]
fn every_kind_of_sample_becomes_8_bit_rgb() {
    let limits = Limits::default();
    let grey = GrayImage::from_pixel(9, 7, Luma([90]));
    assert_eq!(decode(&encode(grey, ImageFormat::Jpeg), &limits).unwrap().get_pixel(3, 3).0, [90, 90, 90]);
    let deep = ImageBuffer::<Rgb<u16>, _>::from_pixel(9, 7, Rgb([0x1234, 0x8000, 0xFFFF]));
    assert_eq!(
        decode(&encode(DynamicImage::from(deep), ImageFormat::Png), &limits).unwrap().get_pixel(0, 0).0,
        [0x12, 0x80, 0xFF]
    );
    let glass = RgbaImage::from_pixel(9, 7, Rgba([200, 100, 50, 3]));
    assert_eq!(
        decode(&encode(glass, ImageFormat::Png), &limits).unwrap().get_pixel(0, 0).0,
        [200, 100, 50],
        "alpha is dropped"
    );
    let webp = decode(&encode(halves(), ImageFormat::WebP), &limits).unwrap();
    assert_eq!((webp.dimensions(), webp.get_pixel(2, 2).0), ((40, 20), [250, 10, 10]));
}

/// The fixtures were written by Pillow: red on the left, blue on the right.
#[test]
fn cmyk_and_palettes_are_read_as_pillow_reads_them() {
    for bytes in [&include_bytes!("fixtures/cmyk.jpg")[..], include_bytes!("fixtures/palette.png")] {
        let picture = decode(bytes, &Limits::default()).unwrap();
        for (position, expected) in [((3, 5), [230, 40, 30]), ((20, 5), [30, 60, 200])] {
            let found = picture.get_pixel(position.0, position.1).0;
            let near = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 4);
            assert!(near, "{found:?} at {position:?}, expected {expected:?}");
        }
    }
}

#[test]
fn photographs_are_turned_upright() {
    // An Exif segment (Exif 2.32, section 4.5.4) whose only entry is the orientation.
    let turned = |orientation: u8| {
        let jpeg = encode(halves(), ImageFormat::Jpeg);
        let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
        exif[25] = orientation;
        let length = (exif.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
    };
    let limits = Limits::default();
    let red_at = |orientation| {
        let picture = decode(&turned(orientation), &limits).unwrap();
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

#[test]
fn broken_files_are_refused_with_their_reason() {
    let jpeg = encode(halves(), ImageFormat::Jpeg);
    assert_eq!(reason(b""), FailureReason::Empty);
    assert_eq!(reason(b"a text file named .jpg"), FailureReason::Unsupported);
    assert_eq!(reason(&jpeg[..jpeg.len() * 2 / 3]), FailureReason::Corrupt);
    let png = encode(halves(), ImageFormat::Png);
    assert_eq!(reason(&png[..png.len() / 2]), FailureReason::Corrupt);
    let limits = Limits { max_pixels: 799, ..Limits::default() };
    assert_eq!(decode(&jpeg, &limits).unwrap_err().reason(), FailureReason::TooManyPixels);
    let limits = Limits { max_bytes: 10, ..Limits::default() };
    assert_eq!(decode(&jpeg, &limits).unwrap_err().reason(), FailureReason::TooLarge);
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
