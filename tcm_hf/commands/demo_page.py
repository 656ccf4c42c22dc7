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
"""The page of the demo, with Gradio."""

import html
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.utils import get_upload_folder
from PIL import Image

from ..model.outlines import SHAPES
from .demo_pdf import read_pdf_page
from .demo_session import Control, DemoSession
from .errors import UsageError, one_line


MAX_FILE_SIZE = "32mb"
# Of what visitors upload and of what is drawn for them, in seconds: looked for every so often, deleted after this long.
DELETE_FILES = (600, 1800)
# One forward pass at a time, since each one uses all cores or the whole device; so many others may wait.
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
MAX_WAITING = 16
# Styles of rendered images, with seeds of such as show several words.
EXAMPLES = {"scene": [3, 0, 1], "sign": [3, 1, 0], "document": [3, 2, 0], "screen": [3, 3, 4]}
INTRODUCTION = """# Scene text detection with TCM
Choose an image, a webcam's or a page of a PDF: the words are outlined. They are not read."""


def draw_examples(folder: Path) -> list[str]:
    """
    Renders the images that visitors can try.

    Args:
        folder (`Path`): where the files go.

    Returns:
        `list[str]`: their paths.
    """
    import numpy as np

    from ..data.synthesis.fonts import find_fonts
    from ..data.synthesis.generator import SyntheticTextGenerator

    paths, fonts = [], find_fonts(limit=12)
    for style, seed in EXAMPLES.items():
        generator = SyntheticTextGenerator(
            fonts,
            size=(600, 800),
            text_height=(18.0, 70.0),
            max_words=30,
            styles={style: 1.0},
            curved=0.3,
            tiny=0.0,
            degradation=0.2,
        )
        image = generator.generate(np.random.default_rng(seed))[0]
        paths.append(str(folder / f"{style}.png"))
        Image.fromarray(image).save(paths[-1])
    return paths


def build_page(session: DemoSession, examples: Sequence[str] = ()) -> gr.Blocks:
    """
    Builds the page.

    Args:
        session ([`DemoSession`]): what it shows.
        examples (`Sequence[str]`, *optional*): paths of images to try.

    Returns:
        `gradio.Blocks`: to be started by [`launch_options`].
    """
    with gr.Blocks(title="tcm_hf", analytics_enabled=False, delete_cache=DELETE_FILES) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = _inputs(session, examples)
                model = gr.Dropdown(
                    session.models,
                    value=session.models[0],
                    label="Model",
                    info="or a Hub id: OWNER/NAME" if session.hub else None,
                    allow_custom_value=session.hub,
                    elem_id="model",
                )
            with gr.Column(scale=3, min_width=320):
                outputs = _outputs()
        # Below both columns: on a narrow screen, where these are one, the results come before the settings.
        with gr.Column():
            _settings(session, model, image, outputs)

        # The sliders are drawn anew for another model, with its own values.
        @gr.on([model.change], inputs=[model, image], outputs=outputs, api_visibility="private", **ONE_AT_A_TIME)
        def change_model(model: str, path: str | None):
            return _shown(session, model, path, None)

    page.queue(max_size=MAX_WAITING)
    return page


def launch_options() -> dict[str, Any]:
    """What the page is started with, by `Blocks.launch`, wherever it runs."""
    return {
        "max_file_size": MAX_FILE_SIZE,
        "max_threads": 4,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "share": False,
        "quiet": True,
        "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    }


def _inputs(session: DemoSession, examples: Sequence[str]) -> gr.Image:
    """The places for an image and a PDF; the component that holds the image."""
    with gr.Tab("Image"):
        image = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "webcam", "clipboard"],
            label=f"Up to {session.max_pixels / 1e6:.3g} megapixels",
            elem_id="image",
        )
        # Gradio's own would open the file before this page's functions are asked, and tell no reason where it cannot. A subclass
        # would make Gradio write a file of types beside this one.
        image.preprocess = _uploaded_path
        if examples:
            gr.Examples([[path] for path in examples], inputs=[image], label="Rendered examples")
    with gr.Tab("PDF"):
        file = gr.File(file_types=[".pdf"], label="PDF", elem_id="pdf")
        number = gr.Number(1, label="Page", precision=0, minimum=1, elem_id="pdf-page")
        said = gr.Markdown()

    @gr.on(
        [file.upload, number.submit, number.blur],
        inputs=[file, number],
        outputs=[image, said],
        api_visibility="private",
        **ONE_AT_A_TIME,
    )
    def turn_to_page(path: str | None, number: int | None):
        if path is None:
            return gr.skip(), ""
        number = int(number or 1)
        picture, count = _told(lambda: read_pdf_page(path, number, session.max_pixels))
        content = io.BytesIO()
        picture.save(content, "PNG")
        name = f"{Path(path).stem}-{number}.png"
        return _to_cache(content.getvalue(), name), f"{count} page{'' if count == 1 else 's'}"

    return image


def _uploaded_path(payload) -> str | None:
    """The path of an image, of which Gradio has seen to it that it is an uploaded file."""
    return None if payload is None else payload.path


def _outputs() -> list:
    """What shows the results, in the order of [`_shown`]."""
    # Without the button that publishes an image.
    picture: dict[str, Any] = {"show_label": False, "interactive": False, "buttons": ["download", "fullscreen"]}
    summary = gr.Markdown("No image yet.", elem_id="summary")
    with gr.Tab("Texts"):
        drawing = gr.Image(**picture, elem_id="drawing")
    with gr.Tab("Text probability"):
        gr.Markdown("What the detector takes for text: from black (0) to pale yellow (1).")
        probability = gr.Image(**picture, elem_id="probability")
    with gr.Tab("Matching map"):
        gr.Markdown("How well the prompt about text matches the image, in cells of 32 pixels of the model's input.")
        matching = gr.Image(**picture, elem_id="matching")
        absent = gr.Markdown()
    download = gr.DownloadButton("Download JSON", interactive=False, elem_id="download")
    with gr.Accordion("JSON", open=False):
        shown = gr.JSON(show_label=False)
    return [summary, drawing, probability, matching, absent, download, shown]


def _settings(session: DemoSession, model: gr.Dropdown, image: gr.Image, outputs: list) -> None:
    """The controls of the chosen model's detector, and what follows when they or the image change."""

    @gr.render(inputs=[model], **ONE_AT_A_TIME)
    def draw_controls(name: str):
        try:
            controls = session.controls(name)
        except (ValueError, OSError, UsageError) as error:
            # A warning would be in the way of the one that the results give.
            gr.Markdown(f"No settings: {html.escape(one_line(error))}")
            return
        with gr.Row():
            parts = {control.name: _component(control) for control in controls if control.is_threshold}
        with gr.Accordion("More", open=False):
            parts |= {control.name: _component(control) for control in controls if not control.is_threshold}
        ordered = [parts[control.name] for control in controls]
        triggers = [part.change for part in ordered]

        @gr.on(
            [image.change, *triggers],
            inputs=[model, image, *ordered],
            outputs=outputs,
            api_visibility="private",
            trigger_mode="always_last",  # while a slider moves, what lies between is skipped
            **ONE_AT_A_TIME,
        )
        def detect(model: str, path: str | None, *values):
            return _shown(session, model, path, dict(zip(parts_in_order, values)))

        parts_in_order = [control.name for control in controls]


def _component(control: Control):
    label = control.name.replace("_", " ").capitalize()
    shared: dict[str, Any] = {"label": label, "info": control.description or None, "elem_id": f"set-{control.name}"}
    shared["interactive"] = True  # Gradio takes what is drawn later for a mere display
    if control.kind == "choice":
        return gr.Dropdown(list(SHAPES), value=control.value, **shared)
    if control.kind == "switch":
        return gr.Checkbox(control.value, **shared)
    if control.kind == "number":
        return gr.Number(control.value, minimum=control.lowest, precision=0, **shared)
    return gr.Slider(control.lowest, control.highest, value=control.value, step=control.step, **shared)


def _shown(session: DemoSession, model: str, path: str | None, values: dict | None) -> list:
    """The values of the outputs."""
    if path is None:
        return ["No image yet.", None, None, None, "", gr.DownloadButton(interactive=False), None]
    start = time.perf_counter()
    result = _told(lambda: session.detect(model, path, values))
    summary = f"**{result.summary}**, {time.perf_counter() - start:.1f} s"
    file = _to_cache(result.as_json().encode(), f"{Path(path).stem}.json")
    absent = "" if result.matching is not None else "This model has no text side."
    button = gr.DownloadButton(value=file, interactive=True)
    return [summary, result.drawing, result.probability, result.matching, absent, button, result.record]


def _told(work: Callable[[], Any]) -> Any:
    """The result of some work, or what is wrong as a message on the page."""
    try:
        return work()
    except (ValueError, OSError, ImportError, UsageError) as error:
        # Messages are shown as HTML, and hold the names of files.
        raise gr.Error(html.escape(one_line(error)), print_exception=False) from error


def _to_cache(content: bytes, name: str) -> str:
    """A file that Gradio deletes with those of its own."""
    return processing_utils.save_bytes_to_cache(content, name, get_upload_folder())
