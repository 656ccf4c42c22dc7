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
"""
Draws the sample street scene of the README, `examples/sample.jpg`: a made-up shop front, so that no photo has to be
shipped. Needs the DejaVu, Lato and Open Sans fonts (Debian: fonts-dejavu fonts-lato fonts-open-sans).

    python examples/draw_sample_scene.py examples/sample.jpg
"""

import argparse

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont


WIDTH, HEIGHT = 1280, 720


def sign(text, font_name, size, ink, plate, padding=(26, 16)):
    """A plate with centerd text, as an RGBA image."""
    font = ImageFont.truetype(font_name, size)
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("RGBA", (right - left + 2 * padding[0], bottom - top + 2 * padding[1]), plate)
    ImageDraw.Draw(picture).text((padding[0] - left, padding[1] - top), text, fill=ink, font=font)
    return np.array(picture)


def put(scene, plate, corners):
    """Warps a plate onto the scene so that its corners, clockwise from the top-left, come to the given points."""
    height, width = plate.shape[:2]
    source = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    matrix = cv2.getPerspectiveTransform(source, np.float32(corners))
    warped = cv2.warpPerspective(plate, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
    alpha = warped[..., 3:].astype(np.float32) / 255
    scene[:] = scene * (1 - alpha) + warped[..., :3] * alpha


def draw():
    rng = np.random.default_rng(7)
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    scene = np.float32([[150, 178, 205]]) * (1 - rows) + np.float32([[205, 205, 200]]) * rows
    scene = np.repeat(scene, WIDTH, axis=1).astype(np.float32)
    # Brick wall, pavement, window and door.
    scene[120:600, 60:900] = (146, 92, 74)
    for y in range(120, 600, 24):
        scene[y : y + 3, 60:900] = (170, 150, 138)
        for x in range(60 + (y // 24 % 2) * 28, 900, 56):
            scene[y : y + 24, x : x + 3] = (170, 150, 138)
    scene[600:] = (112, 112, 116)
    for x in range(0, WIDTH, 160):
        cv2.line(scene, (x, 600), (x - 120, HEIGHT), (92, 92, 96), 3)
    cv2.rectangle(scene, (120, 300), (560, 560), (52, 66, 74), -1)
    cv2.rectangle(scene, (120, 300), (560, 560), (225, 220, 205), 10)
    cv2.rectangle(scene, (640, 290), (830, 600), (62, 44, 36), -1)
    cv2.rectangle(scene, (1010, 250), (1024, 600), (70, 74, 78), -1)
    put(
        scene,
        sign("CORNER BAKERY", "Lato-Black.ttf", 84, "#f6e7c1", "#1f4d3a"),
        [[100, 148], [860, 160], [860, 268], [100, 262]],
    )
    put(
        scene,
        sign("Fresh bread daily", "DejaVuSerif.ttf", 40, "#ffffff", "#00000000"),
        [[170, 340], [510, 340], [510, 400], [170, 400]],
    )
    put(
        scene,
        sign("COFFEE $2.50", "DejaVuSans-Bold.ttf", 40, "#f2c14e", "#00000000"),
        [[180, 440], [480, 430], [482, 490], [182, 500]],
    )
    put(
        scene,
        sign("OPEN", "OpenSans-Bold.ttf", 44, "#ffffff", "#b3261e"),
        [[672, 340], [796, 346], [794, 404], [672, 400]],
    )
    put(
        scene,
        sign("MAIN STREET", "DejaVuSans-Bold.ttf", 44, "#ffffff", "#1d4f91"),
        [[930, 220], [1220, 176], [1222, 244], [932, 290]],
    )
    put(
        scene,
        sign("NO PARKING", "OpenSans-Bold.ttf", 40, "#222222", "#f4f4f0"),
        [[950, 340], [1130, 352], [1128, 410], [950, 398]],
    )
    put(
        scene,
        sign("Platform 9", "Lato-Regular.ttf", 36, "#e8e8e8", "#333a40"),
        [[1100, 470], [1250, 460], [1252, 508], [1102, 520]],
    )
    scene = cv2.GaussianBlur(scene, (0, 0), 0.8) + rng.normal(0, 4, scene.shape)
    return Image.fromarray(scene.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="image to write")
    draw().save(parser.parse_args().output, quality=88)
