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

"""Frames of videos, decoded by PyAV (FFmpeg)."""

import io
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

from .items import MAX_FAILURES_IN_A_ROW, InputFile, InputImage, import_extra


# FFmpeg's readers of single files. Others are play lists and scripts, which name further files and addresses to be opened.
_READERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,gif,m4v,h264,hevc,ivf,mjpeg,wav,dv,mxf"
# Frames that may lie between two that are taken by their time, on average.
MOST_BETWEEN = 1000


def read_video(file: InputFile, source: str | BinaryIO | io.RawIOBase) -> Iterator[InputImage]:
    """
    Yields frames of a video as they are decoded.

    Args:
        file ([`InputFile`]): The file.
        source (`str` or file object): Its path, or a stream.
    """
    av = import_extra("av", "video", "PyAV")
    try:
        if isinstance(source, str):
            with open(source, "rb") as stream:
                yield from _read(av, file, stream)
        else:
            yield from _read(av, file, source)
    except av.error.FFmpegError as error:
        yield file.error(f"cannot be read ({error.strerror}); get a complete copy of it")


def _read(av: Any, file: InputFile, stream: Any) -> Iterator[InputImage]:
    # Through a file object, so that FFmpeg itself opens nothing.
    with av.open(stream, options={"format_whitelist": _READERS, "protocol_whitelist": ""}) as container:
        if not container.streams.video:
            yield file.error("holds no video; name a file with frames")
            return
        video = container.streams.video[0]
        if video.codec_context is None:
            yield file.error("holds video of an unknown codec; convert it, to H.264 for instance")
            return
        limit = file.options.max_pixels
        if limit is not None and video.codec_context.width * video.codec_context.height > limit:
            frame = f"{video.codec_context.width} x {video.codec_context.height} pixels (width x height)"
            yield file.error(
                f"has frames of {frame}, more than max_pixels={limit}; scale it down, or raise max_pixels"
            )
            return
        yield from _Frames(av, file, video, limit).read(container)


class _Frames:
    """Chooses frames, and counts those that were decoded."""

    def __init__(self, av: Any, file: InputFile, video: Any, limit: int | None):
        self.av, self.file, self.video, self.limit = av, file, video, limit
        self.step, self.seconds = file.options.interval
        self.start = float(video.start_time * video.time_base) if video.start_time is not None else 0.0
        self.next_time = -math.inf
        self.number = self.taken = self.failures = 0  # frames decoded, frames yielded, and errors since the last one
        self.siblings = self._count()
        self.packets, self.end = 0, 0.0  # packets read, and the seconds where the last of them ends

    def _count(self) -> int | None:
        video = self.video
        if self.step is not None:
            return math.ceil(video.frames / self.step) or None
        if video.duration is None or self.seconds is None:
            return None
        return math.ceil(float(video.duration * video.time_base) / self.seconds)

    def read(self, container: Any) -> Iterator[InputImage]:
        file, most = self.file, self.file.options.max_frames
        packets = container.demux(self.video)
        while True:
            try:
                packet = next(packets)
                self._follow(packet)
                decoded = packet.decode()
            except (StopIteration, self.av.error.EOFError):
                if missing := self._missing(container):
                    yield file.error(f"ends {missing}; get a complete copy of the video")
                return
            except self.av.error.FFmpegError as error:
                yield self._failed(f"cannot be decoded ({error.strerror}); get a complete copy of the video")
                if self.failures >= MAX_FAILURES_IN_A_ROW:
                    yield file.error(f"has {self.failures} damaged frames in a row, the rest is left out; repair it")
                    return
                continue
            for frame in decoded:
                image = self._take(frame)
                self.number += 1
                if self.number > most * (self.step or MOST_BETWEEN):  # times that never go on
                    yield file.too_many("frames")
                    return
                if image is None:
                    continue
                if self.taken == most:
                    yield file.too_many("frames")
                    return
                self.taken += 1
                yield image

    def _follow(self, packet: Any) -> None:
        """Keeps how far the file goes, whether its packets can be decoded or not."""
        if packet.size:
            self.packets += 1
        if packet.pts is not None:
            self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - self.start)

    def _missing(self, container: Any) -> str | None:
        """What a video lacks of the length that its header gives, in words: most formats end without an error where a copy was cut."""
        # Some formats count the length from the first frame, and some from zero.
        video, found = self.video, self.end + max(self.start, 0.0)
        if container.format.name == "avi":  # FFmpeg corrects its length by the size of the file, but not the count
            rate = float(video.average_rate or 25)
            expected, found = video.frames / rate, self.packets / rate
        else:
            lengths = [float(video.duration * video.time_base)] if video.duration is not None else []
            # Matroska has the length of each stream as a tag. The length of all is that of the sound, where it is longer.
            if tag := re.fullmatch(r"(\d+):(\d+):([\d.]+)", video.metadata.get("DURATION", "")):
                lengths.append(int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]))
            if container.duration is not None and (lengths or len(container.streams) == 1):
                lengths.append(container.duration / self.av.time_base)
            expected = min(lengths, default=0.0)
        if found >= expected - min(1.0, expected / 10):
            return None
        return f"after {found:.1f} of {expected:.1f} seconds"

    def _failed(self, reason: str, **facts: Any) -> InputImage:
        self.failures += 1
        number = self.number
        self.number += 1
        return self.file.error(reason, frame=number, **facts)

    def _take(self, frame: Any) -> InputImage | None:
        """The image of a decoded frame; `None` where it lies between those that were asked for."""
        time = frame.time
        if time is None:
            rate = self.video.average_rate or 25
            time = self.number / float(rate)
        else:
            time -= self.start
        if self.step is not None:
            wanted = self.number % self.step == 0
        else:
            assert self.seconds is not None
            wanted = time >= self.next_time - 1e-6
            if wanted:
                self.next_time = (math.floor(time / self.seconds + 1e-6) + 1) * self.seconds
        if not wanted:
            return None
        facts = {"frame": self.number, "timestamp": round(time, 3)}
        siblings, self.siblings = self.siblings, None
        if self.file.is_done(**facts):
            return self.file.image(None, siblings, **facts)
        if self.limit is not None and frame.width * frame.height > self.limit:
            size = f"{frame.width} x {frame.height} pixels (width x height)"
            return self.file.error(f"has {size}, more than max_pixels={self.limit}; scale it down", **facts)
        if frame.is_corrupt:
            return self.file.error("is damaged; get a complete copy of the video", **facts)
        self.failures = 0
        return self.file.image(_upright(frame), siblings, **facts)


def _upright(frame: Any) -> Image.Image:
    image = frame.to_image()
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turn = turns.get(round(frame.rotation) % 360)  # counterclockwise, as Pillow's
    return image if turn is None else image.transpose(turn)
