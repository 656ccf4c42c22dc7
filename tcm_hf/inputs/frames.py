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

"""The frames of image files: pages of TIFFs, animations."""

from collections.abc import Iterator
from typing import Any

from ..model.image_loading import ImageReadError, fetch_source, load_rgb_image, open_image
from .items import MAX_FAILURES_IN_A_ROW, InputFile, InputImage


def read_frames(file: InputFile, source: Any, **facts: Any) -> Iterator[InputImage]:
    """
    Yields every frame of an image file, decoded; of one with a single frame the file itself.

    Args:
        file ([`InputFile`]): The file.
        source (`str`, `bytes` or file object): A path, an address or the content.
        facts: Where the image file is in the input.
    """
    options = file.options
    content = fetch_source(source, file.image(source, **facts).where, options.timeout)
    with open_image(content, name=file.image(source, **facts).where, max_pixels=options.max_pixels) as image:
        try:
            is_animated = getattr(image, "is_animated", False)
        except Exception as error:  # whatever decoders raise on damaged files
            yield file.error(error, **facts)
            return
        if not is_animated:
            yield file.image(source if isinstance(source, str) else content, **facts)
            return
        failures = 0
        for frame in range(options.max_frames + 1):
            place = {**facts, "frame": frame}
            try:
                image.seek(frame)
            except EOFError:
                return
            except Exception as error:  # whatever decoders raise on damaged files
                failures += 1
                yield file.error(f"cannot be read ({error}); get a complete copy of it", **place)
                if failures == MAX_FAILURES_IN_A_ROW:
                    return
                continue
            if frame == options.max_frames:
                yield file.too_many("frames")
                return
            if file.is_done(**place):
                yield file.image(None, **place)
                continue
            try:
                rgb = load_rgb_image(image, name=file.image(None, **place).where, max_pixels=options.max_pixels)
            except ImageReadError as error:
                failures += 1
                yield file.error(error, **place)
                if failures == MAX_FAILURES_IN_A_ROW:
                    return
                continue
            failures = 0
            # An image that needed no conversion is the file's own buffer, which the next frame overwrites.
            yield file.image(rgb.copy() if rgb is image else rgb, **place)
