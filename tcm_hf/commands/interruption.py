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
"""Signals that end a command: each becomes an exception, and waits while a result is being written."""

# Only the standard library here: every start of `tcm-hf` imports this file.
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


# Ctrl-C, `kill` and the schedulers of clusters, and a terminal that closes. Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """
    A signal that ends the command; the exit code is 128 + its number.

    Args:
        number (`int`): the signal's number.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class _State:
    received: int | None = None  # stays: an exception in a callback or a destructor is lost, and raised again later
    held = 0


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Raises [`Interrupted`] in the `with` block when the process is told to end.

    Signals that are ignored, as SIGHUP is under `nohup`, or that have a handler already keep what they have. Outside of
    the main thread nothing changes. Processes that are forked meanwhile end at once, as they would without the block.
    """
    owner = os.getpid()

    def handle(number: int, frame) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        _State.received = number
        if not _State.held:
            raise Interrupted(number)

    before = {}
    _State.received = None
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    before[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """
    Holds signals back while the `with` block runs.

    Raises:
        Interrupted: at the end of the block, if one has come, in the block or before it.
    """
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
    if _State.received is not None and not _State.held:
        raise Interrupted(_State.received)
