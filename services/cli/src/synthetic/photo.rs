//! The photographer: where the camera stands, the light, noise, and the file that comes out.

use image::{
    ImageEncoder,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};
use rand::{Rng, RngExt};
use tiny_skia::Transform;

use super::{brush::Canvas, car::Car, damage::Damage, scene::Scene};

/// Sizes of photographs, the usual one more often than the others.
const SIZES: [(u32, u32); 8] =
    [(640, 480), (640, 480), (640, 480), (640, 480), (320, 240), (480, 640), (800, 600), (1280, 960)];

/// How files are named, and so encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg { extension: &'static str, quality: u8 },
    Png,
}

impl Format {
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Jpeg { extension, .. } => extension,
            Self::Png => "png",
        }
    }

    /// Mostly JPEG, with the names that cameras and people give them.
    pub(super) fn sample(rng: &mut impl Rng) -> Self {
        let quality = rng.random_range(60..=95);
        match rng.random_range(0..20) {
            0 => Self::Png,
            1 | 2 => Self::Jpeg { extension: "JPG", quality },
            3 => Self::Jpeg { extension: "jpeg", quality },
            _ => Self::Jpeg { extension: "jpg", quality },
        }
    }
}

/// One photograph, before it is taken.
#[derive(Debug, Clone)]
pub(super) struct Photo {
    size: (u32, u32),
    /// Half the car's length, in heights of the picture.
    scale: f32,
    /// Where the middle of the car stands, in heights of the picture.
    stand: (f32, f32),
    mirrored: bool,
    tilt_degrees: f32,
    slant: f32,
    stretch: f32,
    light: f32,
    warmth: f32,
    noise: f32,
}

impl Photo {
    /// A camera somewhere in front of the car.
    pub(super) fn sample(rng: &mut impl Rng) -> Self {
        let size = SIZES[rng.random_range(0..SIZES.len())];
        let width = size.0 as f32 / size.1 as f32;
        let scale = width * rng.random_range(0.34..0.50);
        Self {
            size,
            scale,
            stand: (width * rng.random_range(0.42..0.58), rng.random_range(0.68..0.86)),
            mirrored: rng.random_bool(0.5),
            tilt_degrees: rng.random_range(-4.0..4.0),
            slant: rng.random_range(-0.10..0.10),
            stretch: rng.random_range(0.9..1.15),
            light: rng.random_range(0.65..1.15),
            warmth: rng.random_range(-0.06..0.06),
            noise: rng.random_range(2.0..12.0),
        }
    }

    /// Takes the photograph: RGB bytes, row by row, with width and height. `None` cannot happen with sizes above zero.
    pub(super) fn take(&self, scene: &Scene, car: &Car, damage: &Damage, rng: &mut impl Rng) -> Option<Pixels> {
        let (width, height) = self.size;
        let mut canvas = Canvas::new(width, height)?;
        let unit = height as f32;
        canvas.transform = Transform::from_scale(unit, unit);
        scene.draw(&mut canvas, width as f32 / unit);
        let across = if self.mirrored { -self.scale } else { self.scale };
        canvas.transform = Transform::from_scale(across * unit, self.scale * self.stretch * unit)
            .post_concat(Transform::from_skew(self.slant, 0.0))
            .post_rotate(self.tilt_degrees)
            .post_translate(self.stand.0 * unit, self.stand.1 * unit);
        car.draw(&mut canvas, damage);
        damage.draw(&mut canvas, car);
        Some(Pixels { width, height, rgb: self.expose(canvas.pixmap.data(), rng) })
    }

    /// Light, white balance and the sensor's noise.
    fn expose(&self, rgba: &[u8], rng: &mut impl Rng) -> Vec<u8> {
        let gains = [self.light * (1.0 + self.warmth), self.light, self.light * (1.0 - self.warmth)];
        let mut random = vec![0; rgba.len()];
        rng.fill_bytes(&mut random);
        let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
        for (pixel, random) in rgba.chunks_exact(4).zip(random.chunks_exact(4)) {
            // Most noise is alike in all channels. The pixel is opaque: the scene fills the whole picture.
            let grey = f32::from(random[3]) - 127.5;
            for channel in 0..3 {
                let noise = (grey + 0.5 * (f32::from(random[channel]) - 127.5)) * self.noise / 127.5;
                rgb.push((f32::from(pixel[channel]) * gains[channel] + noise).clamp(0.0, 255.0) as u8);
            }
        }
        rgb
    }
}

/// A developed photograph.
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) rgb: Vec<u8>,
}

impl Pixels {
    /// The file.
    ///
    /// # Errors
    /// What the encoder says.
    pub(super) fn encode(&self, format: Format) -> image::ImageResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let colour = image::ExtendedColorType::Rgb8;
        match format {
            Format::Jpeg { quality, .. } => JpegEncoder::new_with_quality(&mut bytes, quality).write_image(
                &self.rgb,
                self.width,
                self.height,
                colour,
            )?,
            Format::Png => PngEncoder::new(&mut bytes).write_image(&self.rgb, self.width, self.height, colour)?,
        }
        Ok(bytes)
    }
}
