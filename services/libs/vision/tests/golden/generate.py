#!/usr/bin/env python3
"""Makes the pictures that `tests/golden.rs` compares with, by torchvision and Pillow, and writes them beside this file.

Run by hand, when a transform is added, in an environment with torch 2.13.0, torchvision 0.28.0, Pillow 13.0.0 and numpy 2.4
(`cases.json` says which versions wrote what is here):

    python3 services/libs/vision/tests/golden/generate.py

Transforms are `torchvision.transforms.functional`'s with fixed parameters, on Pillow's images: what `torchvision.transforms` does to
photographs in a dataset. Only `erase` is torchvision's on a tensor, since it has none for images. Decoded pictures are what Pillow's
`exif_transpose` and `convert("RGB")` make of them, but those of 16-bit samples, which numpy makes by our own rule. All sources are
drawn here.
"""

import io
import json
import pathlib
import struct
import zlib

import numpy
import PIL
import torch
import torchvision
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

FOLDER = pathlib.Path(__file__).parent
MEAN_COLOUR = [round(255 * share) for share in (0.485, 0.456, 0.406)]


def draw(width: int, height: int) -> Image.Image:
    """Slopes, stripes, a disc and noise: something for every filter."""
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float64)
    red = 255 * x / width
    green = 127 + 100 * numpy.sin(x / 2.7) * numpy.cos(y / 3.9)
    blue = numpy.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2, 230, 40)
    noise = numpy.random.default_rng(width * 1000 + height).normal(0, 12, (height, width, 3))
    pixels = numpy.stack([red, green, blue], axis=-1) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


class Golden:
    def __init__(self):
        self.cases = []
        self.kept = {}

    def keep(self, name: str, picture: Image.Image) -> str:
        """Pictures that are the same are kept once."""
        pixels = (picture.size, picture.tobytes())
        if pixels not in self.kept:
            self.kept[pixels] = f"{name}.png"
            picture.save(FOLDER / self.kept[pixels], optimize=True)
        return self.kept[pixels]

    def case(self, function: str, source: str, result: Image.Image, **parameters):
        file = self.keep(f"{len(self.cases):02}-{function}", result)
        self.cases.append({"function": function, "source": source, "expected": file, **parameters})

    def encoded(self, name: str, data: bytes, expected: Image.Image):
        (FOLDER / name).write_bytes(data)
        self.case("decode", name, expected)


def transforms(golden: Golden):
    for width, height, side in [(75, 47, 32), (47, 75, 40), (20, 30, 48), (64, 64, 64)]:
        picture = draw(width, height)
        source = golden.keep(f"source-{width}x{height}", picture)
        resized = F.resize(picture, [side, side], InterpolationMode.BILINEAR, antialias=True)
        golden.case("resize", source, resized, side=side)

    square = draw(64, 64)
    for left, top, width, height, side in [(3, 9, 40, 30, 24), (30, 0, 34, 64, 32), (10, 20, 12, 15, 32), (0, 0, 64, 64, 48)]:
        part = F.resized_crop(square, top, left, height, width, [side, side], InterpolationMode.BILINEAR, antialias=True)
        golden.case("resized_crop", "source-64x64.png", part, part=[left, top, width, height], side=side)
    golden.case("mirror", "source-64x64.png", F.hflip(square))
    for degrees in [-15.0, -3.3, 7.25, 15.0, 90.0]:
        golden.case("rotate", "source-64x64.png", F.rotate(square, degrees), degrees=degrees)
    for factor in [0.0, 0.63, 1.0, 1.4]:
        for name in ["brightness", "contrast", "saturation"]:
            golden.case(name, "source-64x64.png", getattr(F, f"adjust_{name}")(square, factor), factor=factor)
    whole = [[0, 0], [63, 0], [63, 63], [0, 63]]
    for corners in [[[4, 6], [60, 1], [57, 62], [2, 55]], [[0, 12], [52, 0], [63, 50], [11, 63]]]:
        tilted = F.perspective(square, whole, corners, InterpolationMode.BILINEAR)
        golden.case("perspective", "source-64x64.png", tilted, corners=corners)
    tensor = torch.from_numpy(numpy.array(square)).permute(2, 0, 1)
    for left, top, width, height in [(5, 10, 20, 8), (40, 0, 24, 64)]:
        value = torch.tensor(MEAN_COLOUR, dtype=torch.uint8).reshape(3, 1, 1)
        erased = F.erase(tensor, top, left, height, width, value)
        result = Image.fromarray(erased.permute(1, 2, 0).numpy())
        golden.case("erase", "source-64x64.png", result, part=[left, top, width, height])


def decoding(golden: Golden):
    picture = draw(40, 24)

    def encode(image: Image.Image, kind: str, **options) -> bytes:
        data = io.BytesIO()
        image.save(data, kind, **options)
        return data.getvalue()

    def expected(data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data))
        return ImageOps.exif_transpose(image).convert("RGB")

    files = {f"exif-{turn}.jpg": (picture, "JPEG", {"quality": 90, "exif": exif(turn)}) for turn in range(1, 9)}
    files |= {
        "full.jpg": (picture, "JPEG", {"quality": 90, "subsampling": 0}),
        "halved.jpg": (picture, "JPEG", {"quality": 75, "subsampling": 2}),
        "progressive.jpg": (picture, "JPEG", {"quality": 85, "progressive": True}),
        "grey.jpg": (picture.convert("L"), "JPEG", {"quality": 90}),
        "rgb.jpg": (picture, "JPEG", {"quality": 90, "keep_rgb": True}),
        "cmyk.jpg": (picture.convert("CMYK"), "JPEG", {"quality": 90}),
        "grey.png": (picture.convert("L"), "PNG", {}),
        "grey-alpha.png": (picture.convert("LA"), "PNG", {}),
        "alpha.png": (with_alpha(picture), "PNG", {}),
        "palette.png": (picture.quantize(32), "PNG", {}),
        "palette-transparent.png": (picture.quantize(32), "PNG", {"transparency": 3}),
        "bilevel.png": (picture.convert("1"), "PNG", {}),
        "lossless.webp": (picture, "WEBP", {"lossless": True}),
    }
    encoded = {name: encode(image, kind, **options) for name, (image, kind, options) in files.items()}
    # Pillow writes four components as Adobe does: inverted, behind a marker that says so. Others leave the marker out, or write YCCK.
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
    assert marker + b"\x00" in encoded["cmyk.jpg"]
    encoded["cmyk-unmarked.jpg"] = encoded["cmyk.jpg"].replace(marker + b"\x00", b"")
    encoded["ycck.jpg"] = encode(as_ycck(picture), "JPEG", quality=90).replace(marker + b"\x00", marker + b"\x02")
    for name, data in encoded.items():
        golden.encoded(name, data, expected(data))

    # Pillow keeps the upper byte of some 16-bit samples and clips others. The contract's rule is the nearest of 256 levels.
    random = numpy.random.default_rng(5)
    for name, shape in {"grey-16.png": (24, 40), "rgb-16.png": (24, 40, 3)}.items():
        deep = random.integers(0, 65536, shape, dtype=numpy.uint16)
        nearest = Image.fromarray(((deep.astype(numpy.uint32) + 128) // 257).astype(numpy.uint8))
        golden.encoded(name, deep_png(deep), nearest.convert("RGB"))


def as_ycck(picture: Image.Image) -> Image.Image:
    """Ink whose components, inverted when they are written, are Y, Cb and Cr of this picture's negative and a slope of black."""
    black = Image.linear_gradient("L").resize(picture.size)
    luma, blue, red = ImageOps.invert(picture).convert("YCbCr").split()
    return Image.merge("CMYK", [band.point(lambda value: 255 - value) for band in (luma, blue, red, black)])


def deep_png(samples: numpy.ndarray) -> bytes:
    """A PNG of 16-bit grey (height, width) or RGB (height, width, 3) samples: Pillow writes no such RGB."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2").reshape(height, -1)
    unfiltered = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 0 if samples.ndim == 2 else 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(unfiltered, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def exif(turn: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = turn
    return data


def with_alpha(picture: Image.Image) -> Image.Image:
    levels = numpy.arange(picture.width * picture.height) % 256
    alpha = Image.fromarray(levels.astype(numpy.uint8).reshape(picture.height, -1))
    picture = picture.copy()
    picture.putalpha(alpha)
    return picture


def main():
    for old in FOLDER.iterdir():
        if old.suffix != ".py":
            old.unlink()
    golden = Golden()
    transforms(golden)
    decoding(golden)
    made_with = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    made_with |= {"pillow": PIL.__version__, "numpy": numpy.__version__}
    (FOLDER / "cases.json").write_text(json.dumps({"made_with": made_with, "cases": golden.cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
