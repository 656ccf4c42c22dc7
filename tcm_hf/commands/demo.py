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
Opens a page in the browser that finds text in images: polygons, heat maps, a slider for every threshold.

It is served to this computer alone, and sends nothing anywhere. What is uploaded stays in a temporary folder for half an
hour. It needs `pip install 'tcm_hf[demo]'`. Ctrl-C ends it.

  tcm-hf demo
  tcm-hf demo --model runs/ours tcm-small --port 8000
"""

import argparse
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checkpoints import DEFAULT, checkpoint_names
from .arguments import positive_int
from .detect import add_arguments as add_detect_arguments
from .errors import UsageError
from .loading import load_pipeline
from .parser import CommandParser, advanced


MAX_PIXELS = 16_777_216  # 4096 x 4096: what a visitor may cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf demo`."""
    add = parser.add_argument
    add(
        "--model",
        nargs="+",
        metavar="MODEL",
        help="checkpoint directories, Hub ids, or checkpoints of the package, to choose from "
        f"(default: {', '.join(_default_models())})",
    )
    add("--device", help="cpu, cuda, cuda:1, mps, ... (default: the first accelerator, or else cpu)")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 serves the network (default: 127.0.0.1)")
    add("--port", type=_port, help="port to listen at (default: the first free one from 7860)")
    add("--open", action="store_true", help="open the page in the browser")
    advanced(
        add("--no-hub", action="store_true", help="offer the models of --model only, and no others of the Hub"),
        add(
            "--max-pixels",
            type=positive_int,
            default=MAX_PIXELS,
            metavar="N",
            help=f"images of more pixels (width x height) are refused (default: {MAX_PIXELS} = 4096 x 4096)",
        ),
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf demo` until it is interrupted.

    Raises:
        UsageError: if Gradio is not installed, or the first model cannot be loaded.
        OSError: if the address or port is in use.
    """
    with open_demo(arguments.model, arguments.device, arguments.max_pixels, not arguments.no_hub) as page:
        serve(page, arguments.host, arguments.port, arguments.open)
    return 0


def serve(page, host: str | None = None, port: int | None = None, browser: bool = False) -> None:
    """
    Serves the page until this process is interrupted.

    Args:
        page (`gradio.Blocks`): of [`open_demo`].
        host (`str`, *optional*): address to listen at; by default that of `GRADIO_SERVER_NAME`, or 127.0.0.1.
        port (`int`, *optional*): port to listen at; by default that of `GRADIO_SERVER_PORT`, or the first free one from 7860.
        browser (`bool`, *optional*, defaults to `False`): whether to open the page in the browser.

    Raises:
        OSError: if the address or port is in use.
    """
    from .demo_page import launch_options

    page.launch(server_name=host, server_port=port, inbrowser=browser, prevent_thread_lock=True, **launch_options())
    print(f"tcm-hf demo: {page.local_url} (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)


@contextmanager
def open_demo(
    models: list[str] | None = None, device: str | None = None, max_pixels: int = MAX_PIXELS, hub: bool = True
) -> Iterator[Any]:
    """
    The page, with its rendered examples as long as it is open.

    Args:
        models (`list[str]`, *optional*): names of models to choose from; by default those of the package.
        device (`str`, *optional*): where they run.
        max_pixels (`int`, *optional*, defaults to 16777216): largest width times height of an image.
        hub (`bool`, *optional*, defaults to `True`): whether other models of the Hub may be chosen, too.

    Returns:
        `gradio.Blocks`

    Raises:
        UsageError: if Gradio is not installed, or the first model cannot be loaded.
    """
    try:
        import gradio  # noqa: F401 - before anything that takes long
    except ImportError as error:
        raise UsageError(f"the demo needs Gradio ({error}): pip install gradio") from error
    from .demo_page import build_page, draw_examples
    from .demo_session import DemoSession

    session = DemoSession(lambda name: _load(name, device), models or _default_models(), max_pixels, hub)
    session.pipeline(session.models[0])
    with tempfile.TemporaryDirectory(prefix="tcm_hf_demo_") as folder:
        yield build_page(session, draw_examples(Path(folder)))


def _default_models() -> list[str]:
    return sorted(checkpoint_names(), key=lambda name: name != DEFAULT)


def _load(name: str, device: str | None):
    """The pipeline that `tcm-hf detect --model NAME` has."""
    parser = CommandParser()
    add_detect_arguments(parser)
    words = ["-", f"--model={name}"] + ([f"--device={device}"] if device else [])
    return load_pipeline(parser.parse_args(words))


def _port(text: str) -> int:
    value = positive_int(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; they end at 65535")
    return value
