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
Detection in many images: decoding and post-processing run in threads beside the forward passes, similar sizes form batches.

On a CPU several forward passes run side by side: two on a core each take less time than one after the other on both, since
what is small or in Python is done on one core in either case.
"""

import itertools
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..inputs import InputImage
from ..model.post_processing import rounded_detection
from .errors import PROGRAMMING_ERRORS, one_line


# Decoded images, and inputs of the model, that may wait for their turn; above it, nothing further is read.
WAITING_BYTES = 256 * 2**20
# Images whose inputs of the model round up to the same multiple of this are padded to a common size.
BUCKET_PIXELS = 64
# Forward passes at a time on a CPU, at most: each takes the memory of its maps.
MAX_PASSES = 4
# With batches, images are read ahead by this many of them, so that similar sizes meet.
BATCHES_AHEAD = 4


@dataclass(frozen=True)
class LoopOptions:
    """
    How [`detect_images`] runs.

    Args:
        batch_size (`int`, *optional*, defaults to 1): Most images in a forward pass.
        workers (`int`, *optional*, defaults to 1): Threads beside the forward pass; with 0 everything happens in turn.
        passes (`int`, *optional*, defaults to 1):
            Forward passes at a time, which share the cores; without workers they come one after the other.
        keep_images (`bool`, *optional*, defaults to `False`): Whether the images come with the results.
    """

    batch_size: int = 1
    workers: int = 1
    passes: int = 1
    keep_images: bool = False


@dataclass(slots=True, eq=False)
class _Job:
    """An image on its way through the loop."""

    item: InputImage
    entry: dict[str, Any] = field(default_factory=dict)
    image: Any = None
    features: Any = None  # what the pipeline's preprocessing gives
    outputs: Any = None  # what the forward pass gives
    bucket: tuple[int, ...] = ()  # empty: goes through the model alone
    bytes: int = 0
    is_finished: bool = False


def passes_at_a_time(pipe: Any, batch_size: int = 1) -> int:
    """
    How many forward passes pay at a time.

    Args:
        pipe ([`~tcm_hf.TextDetectionPipeline`]): The detector.
        batch_size (`int`, *optional*, defaults to 1): Images in a forward pass.

    Returns:
        `int`: On a CPU one for each of PyTorch's threads, at most 4; else 1. So it is for batches, which are made for accelerators
        and take much memory, and for exported networks, whose runtimes have threads of their own.
    """
    import torch
    from transformers import PreTrainedModel

    if batch_size > 1 or pipe.device.type != "cpu" or not isinstance(pipe.model, PreTrainedModel):
        return 1
    return min(MAX_PASSES, torch.get_num_threads())


def detect_images(
    pipe: Any, items: Iterator[InputImage], options: LoopOptions | None = None
) -> Generator[tuple[InputImage, dict[str, Any], Any]]:
    """
    Detects text in images, in their order.

    Args:
        pipe ([`~tcm_hf.TextDetectionPipeline`]): The detector.
        items (`Iterator[InputImage]`): The images; with workers, another thread iterates over them.
        options ([`LoopOptions`], *optional*): How it runs.

    Returns:
        `Iterator[tuple[InputImage, dict, PIL.Image.Image]]`:
            For each image the image as it came, its entry (see `DetectionWriter`; empty where the image `is_done`), and, where it
            was read and is to be kept, the decoded image. Whatever goes wrong with one image is the `error` of its entry;
            a mistake in a program, one of `PROGRAMMING_ERRORS`, is raised.
    """
    loop = _Loop(pipe, items, options or LoopOptions())
    try:
        yield from loop.run()
    finally:
        loop.close()


class _Loop:
    """
    The calling thread runs the model, unless there are several passes at a time, and decides; all state but the queues is
    its own.

    A reader thread iterates over the inputs, a crew of threads decodes images and reads results out of the model's
    outputs, another one runs several passes. They report to the one queue of events that the calling thread waits for.
    """

    def __init__(self, pipe: Any, items: Iterator[InputImage], options: LoopOptions):
        self.pipe, self.items, self.options = pipe, items, options
        ahead = BATCHES_AHEAD * options.batch_size if options.batch_size > 1 else 2
        self.passes = options.passes if options.workers else 1
        # Images in work at a time.
        self.window = ahead + options.workers + (self.passes - 1) * options.batch_size
        self.events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.pending: deque[_Job] = deque()  # all that are in work, in the order of the inputs
        self.unloaded: deque[_Job] = deque()
        self.ready: list[_Job] = []  # for the forward pass
        self.in_work = self.loading = self.passing = self.granted = self.arrived = self.emitted = self.bytes = 0
        self.has_ended = self.is_closed = False
        self.permits = threading.Semaphore(0)
        self.crew = _Crew(options.workers) if options.workers else None
        self.model_crew = _Crew(self.passes, _threads_of_a_pass(self.passes)) if self.passes > 1 else None
        self.reader = threading.Thread(target=self._read, name="tcm_hf inputs", daemon=True)

    def run(self) -> Iterator[tuple[InputImage, dict[str, Any], Any]]:
        if self.crew is not None:
            self.reader.start()
        while True:
            self._grant()
            if self.crew is None and not self.has_ended:
                self._read_here()
            self._take_events(wait=False)
            self._load_ahead()
            if self.pending and self.pending[0].is_finished:
                job = self.pending.popleft()
                self.emitted += 1
                self.bytes -= job.bytes
                yield job.item, job.entry, job.image
                continue
            batch = self._next_batch() if self.passing < self.passes else []
            if batch:
                # The last image, which may be the only one, has all cores.
                crew = None if self.has_ended and self.pending[-1] in batch and not self.passing else self.model_crew
                self.passing += 1
                self._submit(crew, 0, self._forward, batch)
            elif not self.pending and self.has_ended:
                return
            elif self.crew is not None:
                self._take_events(wait=True)

    def close(self) -> None:
        self.is_closed = True
        self.permits.release()
        if self.model_crew is not None:
            self.model_crew.close()
        if self.crew is not None:
            self.crew.close()
            if self.reader.is_alive():
                self.reader.join(2)  # it may be waiting for standard input
        if not self.reader.is_alive() and isinstance(self.items, Generator):
            self.items.close()  # and the files that it reads

    # ------------------------------------------------------------------ inputs

    def _grant(self) -> None:
        """Lets the reader read on, by a few images beyond those that came, while there is room."""
        while (
            self.granted - self.arrived < self.options.workers + 1
            and self.granted - self.emitted < self.window
            and (self.bytes < WAITING_BYTES or self.granted == self.emitted)
        ):
            self.granted += 1
            self.permits.release()

    def _read(self) -> None:
        try:
            while True:
                self.permits.acquire()
                if self.is_closed:
                    return
                self.events.put(("item", _Job(next(self.items))))
        except StopIteration:
            self.events.put(("end", None))
        except BaseException as error:
            self.events.put(("failure", error))

    def _read_here(self) -> None:
        while self.permits.acquire(blocking=False):
            item = next(self.items, None)
            if item is None:
                self.events.put(("end", None))
                return
            self.events.put(("item", _Job(item)))
            self._take_events(wait=False)
            self._load_ahead()
            if any(job.is_finished for job in self.pending):
                return  # nothing that is known waits for an image that is not read yet

    def _take_events(self, wait: bool) -> None:
        while True:
            try:
                kind, value = self.events.get(block=wait)
            except queue.Empty:
                return
            wait = False
            if kind == "end":
                self.has_ended = True
            elif kind == "failure":
                raise value
            elif kind == "item":
                self._arrive(value)
            elif kind == "loaded":
                job, size = value
                self.loading -= 1
                self.bytes += size - job.bytes
                job.bytes = size
                if "error" in job.entry:
                    self._finish(job)
                else:
                    self.ready.append(job)
            elif kind == "passed":
                self.passing -= 1
                for job in value:
                    if "error" in job.entry:
                        self._finish(job)
                    else:
                        self._submit(self.crew, 0, self._read_out, job)
            else:
                self._finish(value)

    def _finish(self, job: _Job) -> None:
        """Takes note that all is done with an image that was loaded."""
        job.is_finished = True
        self.in_work -= 1

    def _arrive(self, job: _Job) -> None:
        self.arrived += 1
        self.pending.append(job)
        size = getattr(job.item.source, "size", None)
        if isinstance(size, tuple):  # a frame or a page, which came decoded
            job.bytes = 3 * math.prod(size)
            self.bytes += job.bytes
        if job.item.is_done:
            job.is_finished = True
        elif job.item.error is not None:
            self._fail(job, one_line(job.item.error))
            job.is_finished = True
        else:
            self.unloaded.append(job)

    # ------------------------------------------------------------------ before and after the model

    def _load_ahead(self) -> None:
        while self.unloaded and (
            (self.loading < 2 * self.options.workers and self.bytes < WAITING_BYTES) or not self.in_work
        ):
            self.in_work += 1
            self.loading += 1
            self._submit(self.crew, 1, self._load, self.unloaded.popleft())
            if self.crew is None:
                self._take_events(wait=False)

    def _submit(self, crew: "_Crew | None", priority: int, task: Callable[[Any], None], work: Any) -> None:
        """Has a crew do a task; the calling thread does it where there is none."""
        if crew is None:
            task(work)
        else:
            crew.submit(priority, lambda: self._run_in_crew(task, work))

    def _run_in_crew(self, task: Callable[[Any], None], work: Any) -> None:
        try:
            task(work)
        except BaseException as error:  # the calling thread raises it
            self.events.put(("failure", error))

    def _load(self, job: _Job) -> None:
        """Decodes an image and prepares it for the model; in a thread of the crew."""
        size = 0
        try:
            image = job.item.load()
        except (OSError, ValueError) as error:
            self._fail(job, one_line(error))
        else:
            job.entry = {**_identity(job.item), "width": image.width, "height": image.height}
            if self.options.keep_images:
                job.image = image
            try:
                job.features = self.pipe.preprocess(image, **self.pipe._preprocess_params)
            except Exception as error:
                self._fail_in_model(job, error)
            else:
                job.bucket, size = _measure(job.features)
                size += 3 * image.width * image.height if self.options.keep_images else 0
        job.item.source = None  # its content is no longer needed
        self.events.put(("loaded", (job, size)))

    def _read_out(self, job: _Job) -> None:
        """Turns the model's outputs into detections; in a thread of the crew."""
        try:
            detections = self.pipe.postprocess(job.outputs, **self.pipe._postprocess_params)
            job.entry["detections"] = [rounded_detection(detection) for detection in detections]
        except Exception as error:
            self._fail_in_model(job, error)
        job.outputs = None
        self.events.put(("finished", job))

    def _fail_in_model(self, job: _Job, error: Exception) -> None:
        """One image's error of the model or of what prepares and reads out its maps, such as too little memory."""
        if isinstance(error, PROGRAMMING_ERRORS):
            raise error
        self._fail(job, f"{job.item.where}: {one_line(error)}")

    def _fail(self, job: _Job, reason: str) -> None:
        job.entry = {**_identity(job.item), "error": reason}
        job.image = job.features = None

    # ------------------------------------------------------------------ the model

    def _next_batch(self) -> list[_Job]:
        """Images for a forward pass: of similar sizes as soon as there are enough, and else when no more can come."""
        size = self.options.batch_size
        groups: dict[Any, list[_Job]] = {}
        for job in self.ready:
            key = job.bucket or id(job)
            groups.setdefault(key, []).append(job)
        chosen = next((g for g in groups.values() if len(g) >= size or not g[0].bucket), [])
        reading = not self.unloaded and not self.has_ended and self.granted > self.arrived
        if not chosen and self.ready and not (self.loading or reading):
            first = min(self.ready, key=self.pending.index)
            chosen = sorted(
                (job for job in self.ready if job.bucket),
                key=lambda job: math.dist(job.bucket, first.bucket),
            )
        chosen = chosen[:size]
        self.ready = [job for job in self.ready if job not in chosen]
        return chosen

    def _forward(self, jobs: list[_Job]) -> None:
        """Runs the model on images; in a thread of the model's crew if there is one."""
        self._pass(jobs)
        self.events.put(("passed", jobs))

    def _pass(self, jobs: list[_Job]) -> None:
        if len(jobs) == 1:
            inputs = jobs[0].features
        else:
            inputs = {key: [job.features[key] for job in jobs] for key in jobs[0].features}
        try:
            outputs = self.pipe.forward(inputs, **self.pipe._forward_params)
        except Exception as error:
            if len(jobs) > 1:  # one image does not cost the others
                for job in jobs:
                    self._pass([job])
            else:
                self._fail_in_model(jobs[0], error)
            return
        for index, job in enumerate(jobs):
            job.features = None
            job.outputs = (
                outputs if len(jobs) == 1 else {key: value[index : index + 1] for key, value in outputs.items()}
            )


class _Crew:
    """
    Threads for tasks.

    They are daemons, unlike those of `concurrent.futures`: a download that goes on does not hold up the end of the process.
    """

    def __init__(self, count: int, torch_threads: int = 1):
        self.torch_threads = torch_threads  # of each; the cores are for the forward passes
        self.tasks: queue.PriorityQueue = queue.PriorityQueue()
        self.numbers = itertools.count()
        self.threads = [threading.Thread(target=self._work, name="tcm_hf worker", daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def submit(self, priority: int, task: Callable[[], None] | None) -> None:
        self.tasks.put((priority, next(self.numbers), task))

    def _work(self) -> None:
        import torch

        torch.set_num_threads(self.torch_threads)  # the number is that of this thread
        while (task := self.tasks.get()[2]) is not None:
            task()

    def close(self) -> None:
        with suppress(queue.Empty):
            while True:
                self.tasks.get_nowait()
        for _ in self.threads:
            self.submit(-1, None)
        for thread in self.threads:
            thread.join(2)


def _threads_of_a_pass(passes: int) -> int:
    """Its share of the cores that the calling thread may use."""
    import torch

    return max(1, torch.get_num_threads() // passes)


def _identity(item: InputImage) -> dict[str, Any]:
    return {"image": item.name, **item.facts}


def _measure(features: Any) -> tuple[tuple[int, ...], int]:
    """The bucket of an image's prepared pixels, and their bytes."""
    pixels = features.get("pixel_values") if isinstance(features, dict) else None
    if not isinstance(pixels, list) or len(pixels) != 1:  # tiles, or a pipeline of another kind
        return (), 0
    bucket = tuple(-(-side // BUCKET_PIXELS) for side in pixels[0].shape[-2:])
    return bucket, pixels[0].numel() * pixels[0].element_size()
