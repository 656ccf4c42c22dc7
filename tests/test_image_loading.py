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
import io
import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from tcm_hf.model import image_loading
from tcm_hf.model.image_loading import ImageReadError, convert_to_rgb, decode_image, load_rgb_image, open_image


PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
PICTURE[0, 0], PICTURE[0, 1] = 0, 255


def encoded(image, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


# ---------------------------------------------------------------------- values of arrays


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "longdouble", torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor, shift", [(1.0, 0.0), (1.00001, 0.0), (1.01, 0.0), (1.2, 0.0), (1.0, -0.02)])
def test_floats_that_leave_their_range_a_little_are_clamped(white, kind, factor, shift):
    values = (PICTURE / 255 * factor + shift) * white
    expected = np.clip(np.rint(values / white * 255), 0, 255)
    if isinstance(kind, str):
        picture = np.asarray(load_rgb_image(values.astype(kind)))
    else:
        picture = np.asarray(load_rgb_image(torch.tensor(values).to(kind).permute(2, 0, 1)))
    # bfloat16 has 8 bits.
    np.testing.assert_allclose(picture, expected, atol=1 if kind != torch.bfloat16 else 2)


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_overshoot_of_resizing(resample):
    gray = Image.fromarray(
        np.kron(np.random.default_rng(1).integers(0, 2, (9, 9)), np.ones((5, 5))).astype(np.float32)
    )
    larger = np.asarray(gray.resize((97, 101), resample))
    assert larger.max() > 1.02 and larger.min() < -0.02
    for white in (1, 255):
        picture = np.asarray(load_rgb_image(larger * white))[..., 0]
        np.testing.assert_allclose(picture, np.clip(larger * 255, 0, 255), atol=1)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64, np.uint16])
def test_integers_that_leave_their_range_a_little_are_clamped(kind):
    for shift in (20, 60) if kind is np.uint16 else (-20, 20):
        picture = np.asarray(load_rgb_image(PICTURE.astype(kind) + kind(shift)))
        np.testing.assert_array_equal(picture, np.clip(PICTURE.astype(int) + shift, 0, 255))


def test_values_of_no_range_are_refused_and_never_black():
    unit = PICTURE / np.float32(255)
    for array in (
        unit * 1.6,
        unit * 4,
        unit - 0.5,
        unit * 2 - 1,
        (unit - 0.45) / 0.23,
        PICTURE - 110.5,
        PICTURE.astype(np.uint16) * 4,  # 10 bits
        PICTURE.astype(np.uint16) * 16,  # 12 bits
        PICTURE.astype(np.int32) * 300,
        PICTURE.astype(np.int16) - np.int16(128),
        np.where(PICTURE > 3, unit, np.nan),
        np.where(PICTURE > 3, unit, -np.inf),
    ):
        with pytest.raises(ImageReadError, match="^image has .*expected|^image holds NaN or infinite"):
            load_rgb_image(array)
        with pytest.raises(ImageReadError, match="^image 3 "):
            load_rgb_image(torch.tensor(array), index=3)
    with pytest.raises(ImageReadError, match="NaN or infinite"):
        load_rgb_image(torch.full((3, 8, 8), float("nan"), dtype=torch.bfloat16))


def test_16_bits_as_floats():
    for kind in (np.float32, np.float64):
        picture = np.asarray(load_rgb_image(PICTURE.astype(kind) * 257))
        np.testing.assert_array_equal(picture, PICTURE)


def test_black_frames_are_pictures():
    for value, kind in ((0, np.float32), (0, np.int32), (0, np.uint16), (3, np.float32), (5, np.uint16)):
        picture = np.asarray(load_rgb_image(np.full((8, 9), value, kind)))
        assert picture.shape == (8, 9, 3) and (picture == value).all()


def test_arrays_are_converted_in_pieces(monkeypatch):
    whole = [np.asarray(load_rgb_image(PICTURE / 255)), np.asarray(load_rgb_image(PICTURE.astype(np.uint16) * 257))]
    monkeypatch.setattr(image_loading, "BAND_VALUES", 100)
    for array in (PICTURE, PICTURE.swapaxes(0, 1)):
        turned = array is not PICTURE
        for source, expected in zip((array / 255, array.astype(np.uint16) * 257), whole):
            picture = np.asarray(load_rgb_image(source))
            np.testing.assert_array_equal(picture.swapaxes(0, 1) if turned else picture, expected)


# ---------------------------------------------------------------------- transparency


def letters(color: int | tuple, background: tuple, mode: str = "RGBA") -> Image.Image:
    color = (color,) * 3 if isinstance(color, int) else color
    image = Image.new("RGBA", (240, 80), background)
    ImageDraw.Draw(image).text((10, 10), "HARBOR", fill=(*color, 255), font=ImageFont.load_default(size=50))
    return image.convert(mode)


def contrast(image: Image.Image, source: Image.Image) -> float:
    """Mean difference between letters and what surrounds them."""
    gray, ink = np.asarray(image.convert("L"), float), np.asarray(source.convert("RGBA").getchannel("A")) > 200
    return abs(gray[ink].mean() - gray[~ink].mean())


@pytest.mark.parametrize("color", [0, 255, 60, 128, 200, (255, 255, 0), (0, 0, 160), (255, 0, 0)])
@pytest.mark.parametrize("below", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_letters_on_transparency_are_visible(color, below, mode):
    image = letters(color, (below, below, below, 0), mode)
    assert contrast(convert_to_rgb(image), image) > 60
    # The same from a file and from an array.
    picture = load_rgb_image(encoded(image))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(load_rgb_image(np.asarray(image))))
    assert contrast(picture, image) > 60


@pytest.mark.parametrize("color", [0, 255])
def test_palettes_with_transparency(color):
    image = letters(color, (color, color, color, 0))
    ink = np.asarray(image.getchannel("A")) > 127
    palette = Image.fromarray(ink.astype(np.uint8)).convert("P")
    palette.putpalette([color] * 6)
    solid = Image.fromarray(np.where(ink, 255, 0).astype(np.uint8))
    keyed_gray = Image.fromarray(np.where(ink, color, 99).astype(np.uint8))
    keyed = Image.merge("RGB", [keyed_gray] * 3)
    sources = [encoded(palette, transparency=0), encoded(palette, transparency=b"\0\xff")]
    sources += [encoded(palette, "GIF", transparency=0), encoded(keyed, transparency=(99, 99, 99))]
    sources += [encoded(keyed_gray, transparency=99), encoded(image, "WEBP", lossless=True)]
    for source in sources:
        picture = np.asarray(load_rgb_image(source).convert("L"), float)
        assert abs(picture[ink].mean() - picture[np.asarray(solid) == 0].mean()) > 200


def test_background_of_letters_beside_panels():
    # Black and white letters at once, and white letters beside a large dark panel that has no need of a background.
    image = Image.new("RGBA", (480, 80), (0, 0, 0, 0))
    image.paste(letters(0, (0, 0, 0, 0)), (0, 0))
    image.paste(letters(255, (0, 0, 0, 0)), (240, 0))
    for part in ((0, 0, 240, 80), (240, 0, 480, 80)):
        assert contrast(convert_to_rgb(image).crop(part), image.crop(part)) > 60
    panel = Image.new("RGBA", (240, 400), (10, 10, 10, 255))
    panel.paste(letters(255, (0, 0, 0, 0)), (0, 0))  # its transparency, too
    converted = convert_to_rgb(panel).crop((0, 0, 240, 70))
    assert contrast(converted, panel.crop((0, 0, 240, 70))) > 60


def test_opaque_and_empty_pictures_keep_what_they_were():
    opaque = Image.fromarray(np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)]))
    np.testing.assert_array_equal(np.asarray(convert_to_rgb(opaque)), PICTURE)
    assert np.asarray(convert_to_rgb(Image.new("RGBA", (4, 4), (9, 9, 9, 0)))).min() == 255
    for mode in ("La", "RGBa"):  # premultiplied
        image = letters(0, (0, 0, 0, 0)).convert(mode.upper() if mode == "RGBa" else "LA").convert(mode)
        assert contrast(convert_to_rgb(image), letters(0, (0, 0, 0, 0))) > 60
    faint = letters(255, (255, 255, 255, 0))
    faint.putalpha(faint.getchannel("A").point(lambda a: a // 4))  # transparent everywhere, as a watermark is
    gray = np.asarray(convert_to_rgb(faint).convert("L"))
    assert gray.max() - gray.min() > 50


# ---------------------------------------------------------------------- files


def test_all_formats_share_the_limit_of_pixels(tmp_path):
    image = Image.fromarray(PICTURE)
    frames = [image, image.transpose(Image.Transpose.ROTATE_180)]
    files = {name: encoded(image, name) for name in ("PNG", "JPEG", "BMP", "PPM", "TIFF", "GIF", "WEBP", "JPEG2000")}
    files |= {name: encoded(image, name) for name in ("TGA", "PCX", "DDS", "SGI", "ICO") if name in Image.SAVE}
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        files["many frames " + name] = encoded(frames[0], name, save_all=True, append_images=frames[1:])
    for mode, name in (("CMYK", "JPEG"), ("F", "TIFF"), ("P", "PNG"), ("RGBA", "PNG"), ("1", "TIFF")):
        files[f"{mode} {name}"] = encoded(image.convert(mode), name)
    for name, data in files.items():
        path = tmp_path / "picture"
        path.write_bytes(data)
        loaded = load_rgb_image(path)
        pixels = loaded.width * loaded.height
        for source in (path, data, io.BytesIO(data), Image.open(path)):
            assert load_rgb_image(source, max_pixels=pixels).size == loaded.size, name
            if isinstance(source, io.BytesIO):
                source.seek(0)
            if isinstance(source, Image.Image):
                source = Image.open(path)
            with pytest.raises(
                ImageReadError, match=rf"{loaded.width} x {loaded.height} pixels .*max_pixels={pixels - 1}"
            ):
                load_rgb_image(source, max_pixels=pixels - 1)
        assert load_rgb_image(path, max_pixels=None).size == loaded.size
    for source in (PICTURE, torch.tensor(PICTURE), PICTURE / 255):
        with pytest.raises(ImageReadError, match="max_pixels=1960"):
            load_rgb_image(source, max_pixels=37 * 53 - 1)


def declared(width: int, height: int) -> bytes:
    """A PNG whose header tells a size that its data does not have."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "size",
    [(178_000_000, 1), (2**21, 1), (1, 2**21), (1, 178_000_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 9)],
)
def test_absurd_sizes_are_refused_by_the_header(size, recwarn):
    start = time.monotonic()
    with pytest.raises(ImageReadError, match="^image "):
        load_rgb_image(declared(*size))
    assert time.monotonic() - start < 2 and not recwarn.list


def test_an_icon_tells_another_size_than_it_has(tmp_path):
    large = encoded(Image.new("RGB", (300, 300)))
    header = (
        b"\0\0\1\0\1\0"
        + bytes((16, 16, 0, 0, 1, 0, 32, 0))
        + len(large).to_bytes(4, "little")
        + (22).to_bytes(4, "little")
    )
    with pytest.raises(ImageReadError, match="300 x 300 pixels"):
        load_rgb_image(header + large, max_pixels=300 * 300 - 1)


def test_scans_of_a_jpeg_are_limited(tmp_path):
    data = encoded(Image.fromarray(PICTURE), "JPEG", progressive=True)
    start, end = data.rfind(b"\xff\xda"), len(data) - 2
    count = data.count(b"\xff\xda")
    for scans in (image_loading.MAX_SCANS, image_loading.MAX_SCANS + 1):
        many = data[:end] + data[start:end] * (scans - count) + data[end:]
        path = tmp_path / "scans.jpg"
        path.write_bytes(many)
        for source in (many, path, Image.open(path)):
            if scans > image_loading.MAX_SCANS:
                assert f"has {scans} scans" in load_rgb_image_error(source)
            else:
                assert load_rgb_image(source).size == (53, 37)


def test_postscript_is_not_run(tmp_path, monkeypatch):
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("a program was started"))
    path = tmp_path / "picture.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(ImageReadError, match="picture.png' is not an image"):
        load_rgb_image(path)


def test_one_kind_of_error(tmp_path, monkeypatch):
    assert issubclass(ImageReadError, OSError) and issubclass(ImageReadError, ValueError)
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.fromarray(PICTURE)))
    for error in (
        SyntaxError("broken"), ValueError("a\nb"), OverflowError(), MemoryError(), KeyError(3), IndexError("x"), TypeError("y"),
        AttributeError("z"), EOFError(), RecursionError("deep"), OSError(5, "Input/output error"), RuntimeError(""),
        Image.DecompressionBombError("large"), AssertionError(),
    ):  # fmt: skip

        def fail(*args, error=error, **kwargs):
            raise error

        for place in ("open", "load"):
            with monkeypatch.context() as patch:
                if place == "open":
                    patch.setattr(Image, "open", fail)
                else:
                    patch.setattr(Image.registered_extensions and Image.OPEN["PNG"][0], "load", fail)
                with pytest.raises(ImageReadError, match=r"picture\.png") as caught:
                    load_rgb_image(path)
                assert "\n" not in str(caught.value)
    with open_image(path) as image:
        assert image.size == (53, 37)
        assert decode_image(image).size == (53, 37)
    with pytest.raises(FileNotFoundError, match="absent.png': no such file"):
        open_image(tmp_path / "absent.png")
    with pytest.raises(ImageReadError, match="no such|not an image"):
        open_image(b"http://127.0.0.1/x.png")


def test_pipes_are_read_to_a_limit(monkeypatch, tmp_path):
    data = encoded(Image.fromarray(PICTURE))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def load():
        writer = threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True)
        writer.start()
        return load_rgb_image(pipe)

    np.testing.assert_array_equal(np.asarray(load()), PICTURE)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    monkeypatch.setattr(image_loading, "MAX_FILE_BYTES", len(data) - 1)
    for read in (load, lambda: load_rgb_image(path)):
        with pytest.raises(ImageReadError, match="has more than .* MiB"):
            read()


def test_turned_pictures_are_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = load_rgb_image(encoded(Image.fromarray(PICTURE), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(image), np.rot90(PICTURE, -1))
    np.testing.assert_array_equal(np.asarray(load_rgb_image(image)), np.rot90(PICTURE, -1))


# ---------------------------------------------------------------------- downloads


@contextmanager
def serving(answer):
    """Serves what `answer(handler)` writes; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                answer(self)
            except OSError:  # the client has gone
                pass

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def drip(handler, data: bytes, pause: float = 0.05) -> None:
    for position in range(len(data)):
        handler.wfile.write(data[position : position + 1])
        handler.wfile.flush()
        time.sleep(pause)


def answer_slowly(handler) -> None:
    stage = handler.path.strip("/").split("/")[0]
    if stage == "silent":
        time.sleep(20)
    elif stage == "headers":
        drip(handler, b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 999 + b"\r\n\r\n")
    elif stage == "body":
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        drip(handler, b"x" * 999)
    elif stage == "redirects":  # each within the limit of a wait
        time.sleep(0.2)
        count = int(handler.path.rsplit("/", 1)[1])
        handler.wfile.write(
            b"HTTP/1.1 302 Found\r\nLocation: /redirects/%d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            % (count + 1)
        )
    elif stage == "chunks":
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        drip(handler, b"1\r\nx\r\n" * 200)


def threads() -> int:
    return sum(thread.name == "tcm_hf download" for thread in threading.enumerate())


@pytest.mark.parametrize("stage", ["silent", "headers", "body", "redirects/0", "chunks"])
def test_one_deadline_for_the_whole_transfer(stage):
    with serving(answer_slowly) as address:
        load_rgb_image_error(f"{address}/x", timeout=5)  # imports the client
        start = time.monotonic()
        with pytest.raises(ImageReadError, match="takes longer than 0.7 seconds to download; raise timeout"):
            load_rgb_image(f"{address}/{stage}", timeout=0.7)
        assert time.monotonic() - start < 6  # the answers take 10 to 50 seconds
        for _ in range(150):  # nothing goes on in the background
            if not threads():
                break
            time.sleep(0.1)
        assert not threads()


def load_rgb_image_error(*args, **kwargs) -> str:
    with pytest.raises(ImageReadError) as caught:
        load_rgb_image(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_looking_a_name_up_counts(monkeypatch):
    load_rgb_image_error("http://127.0.0.1:9/", timeout=5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(10))
    start = time.monotonic()
    assert "longer than 0.3 seconds" in load_rgb_image_error("http://picture.example/x.png", timeout=0.3)
    assert time.monotonic() - start < 6  # the answers take 10 to 50 seconds


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "4"])
def test_wrong_timeouts(timeout):
    assert "timeout must be" in load_rgb_image_error("http://127.0.0.1:9/", timeout=timeout)


def test_redirects_stay_on_the_web(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(Image.fromarray(PICTURE)))
    targets = [
        f"file://{secret}",
        "ftp://127.0.0.1/x.png",
        str(secret),
        "gopher://127.0.0.1/",
        "data:image/png;base64,AA",
    ]
    seen = []

    def answer(handler):
        seen.append(handler.path)
        if handler.path == "/picture":
            data = secret.read_bytes()
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        elif handler.path == "/there":
            handler.wfile.write(
                b"HTTP/1.1 302 Found\r\nLocation: /picture\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        elif handler.path == "/loop":
            handler.wfile.write(
                b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        elif handler.path.startswith("/to/"):
            target = targets[int(handler.path[4:])].encode()
            handler.wfile.write(
                b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        else:
            handler.send_error(404)

    with serving(answer) as address:
        np.testing.assert_array_equal(np.asarray(load_rgb_image(address + "/there", timeout=10)), PICTURE)
        for number in range(len(targets)):
            assert "cannot be downloaded" in load_rgb_image_error(f"{address}/to/{number}", timeout=10)
        seen.clear()
        assert "cannot be downloaded" in load_rgb_image_error(address + "/loop", timeout=10)
        assert len(seen) <= image_loading.MAX_REDIRECTS + 1
        assert "404" in load_rgb_image_error(address + "/absent", timeout=10)


def test_compressed_answers_are_refused():
    import gzip

    def answer(handler):
        assert handler.headers["Accept-Encoding"] == "identity"
        data = gzip.compress(bytes(10**7))
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )

    with serving(answer) as address:
        assert "comes compressed (gzip)" in load_rgb_image_error(address, timeout=10)


def test_endless_answers_end(monkeypatch):
    monkeypatch.setattr(image_loading, "MAX_DOWNLOAD_BYTES", 2**20)

    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            handler.wfile.write(bytes(2**16))

    with serving(answer) as address:
        assert "has more than 1 MiB" in load_rgb_image_error(address, timeout=20)
