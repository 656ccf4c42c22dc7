# Copyright 2026 The tcm_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Thousands of broken images, and the memory of the hungriest ones that are accepted."""

import io
import os
import random
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tcm_hf.model.image_loading import DEFAULT_MAX_PIXELS, ImageReadError, load_rgb_image


ROOT = os.path.dirname(os.path.dirname(sys.modules["tcm_hf"].__file__))
FORMATS = (
    "PNG JPEG GIF BMP DIB TIFF WEBP AVIF JPEG2000 ICO ICNS DDS PCX PPM SGI TGA IM MSP XBM SPIDER BLP QOI MPO PSD EPS PDF".split()
)  # fmt: skip


def samples() -> dict[str, bytes]:
    """An image in every format and mode that Pillow writes here, and a PSD, which it only reads."""
    gray = Image.effect_noise((48, 40), 80)
    base = Image.merge("RGB", [gray, gray.rotate(90), gray.rotate(180)])
    found = {}
    Image.init()
    for name in FORMATS:
        for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16", "F", "LA"):
            image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else base.convert(mode)
            for label, options in (
                ("", {}),
                ("compressed", {"compression": "tiff_lzw"}),
                ("progressive", {"progressive": True}),
                ("frames", {"save_all": True, "append_images": [image.rotate(90)]}),
            ):
                if (
                    label
                    and name
                    not in {
                        "compressed": ("TIFF",),
                        "progressive": ("JPEG",),
                        "frames": ("GIF", "WEBP", "PNG", "TIFF", "AVIF"),
                    }[label]
                ):
                    continue
                buffer = io.BytesIO()
                try:
                    image.save(buffer, name, **options)
                except (OSError, ValueError, KeyError, AttributeError):
                    continue
                found[f"{name} {mode} {label}"] = buffer.getvalue()
    planes = b"".join(plane.tobytes() for plane in base.split())
    header = (
        b"8BPS\0\1"
        + bytes(6)
        + b"\0\3"
        + (40).to_bytes(4, "big")
        + (48).to_bytes(4, "big")
        + b"\0\x08\0\3"
        + bytes(12)
    )
    found["PSD RGB"] = header + b"\0\0" + planes
    return found


def mutant(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        kind, length = rng.randrange(8), len(data)
        if length < 2:
            break
        # Headers decide sizes, so they are hit more often.
        at = rng.randrange(min(length, 64)) if rng.random() < 0.5 else rng.randrange(length)
        if kind == 0:
            del data[rng.randrange(length) :]
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 3:
            data[at : at + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\0\0", b"\0\0\1\0")
            )
        elif kind == 4:
            del data[at : at + rng.randrange(1, 40)]
        elif kind == 5:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif kind == 6:
            other = rng.choice(others)
            data[at:] = other[rng.randrange(len(other)) :]
        else:
            data[at : at + 2] = rng.randbytes(2)
    return bytes(data)


@pytest.mark.slow
def test_fuzz(tmp_path):
    """An image, or the one documented error of one line: within seconds and a bounded memory."""
    rng, known = random.Random(0), samples()
    assert len(known) > 60 and len({name.split()[0] for name in known}) > 15
    names, read, kinds = sorted(known), 0, set()
    for name, data in known.items():
        if name.split()[0] not in ("EPS", "PDF"):
            assert load_rgb_image(data).mode == "RGB", name
    for number in range(2000):
        name = names[number % len(names)]
        data = mutant(known[name], list(known.values()), rng)
        # Under any suffix, as bytes, or as base64.
        path = tmp_path / f"x{rng.choice(('.jpg', '.png', '.tif', '.webp', '.gif', ''))}"
        path.write_bytes(data)
        start = time.monotonic()
        try:
            image = load_rgb_image(rng.choice((path, data, io.BytesIO(data))), max_pixels=10**6)
            assert image.mode == "RGB" and image.width * image.height <= 10**6
            read += 1
        except ImageReadError as error:
            assert "\n" not in str(error) and len(str(error)) < 500, (name, str(error))
            kinds.add(type(error.__cause__).__name__)
        assert time.monotonic() - start < 20, name
    assert read > 100 and len(kinds) > 5, kinds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2e6  # kilobytes


# The peak of the kernel's accounts would begin with that of the process which starts it.
MEASURE = """
import sys
from transformers import pipeline
import tcm_hf
pipeline("text-detection")(sys.argv[1])
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(line.split()[1]) * 1024)
"""
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak memory is read from /proc")


def peak_memory(path) -> float:
    """Bytes that a process takes at most which detects text in an image, everything included."""
    environment = {**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    return float(result.stdout.splitlines()[-1])


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((256, 256), 60).resize((width, height)).convert("RGB")


@needs_proc
def test_memory_of_a_photo_of_12_megapixels(tmp_path):
    noise(4000, 3000).save(tmp_path / "photo.jpg", progressive=True, subsampling=0)
    assert peak_memory(tmp_path / "photo.jpg") < 700e6


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("name", ["webp", "avif", "jpg", "png", "tif", "column"])
def test_memory_of_the_largest_pictures(name, tmp_path):
    path = tmp_path / f"image.{'png' if name == 'column' else name}"
    image = Image.new("RGBA", (48, 2**20), (9, 9, 9, 9)) if name == "column" else noise(8192, 6144)
    assert image.width * image.height <= DEFAULT_MAX_PIXELS
    if name == "jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.convert("CMYK").save(path, progressive=True, subsampling=0, exif=exif)
    elif name == "png":
        image.putalpha(image.getchannel(0))
        image.save(path, compress_level=1)
    elif name == "tif":
        image.convert("F").save(path)
    else:
        image.save(path)
    del image
    assert peak_memory(path) < 2e9
