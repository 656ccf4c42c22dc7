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

"""The model card of a trained model: what it is, how it is used, what was trained on what, and what was measured."""

import hashlib
import logging
import math
import os
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData


logger = logging.getLogger(__name__)

# Stands at a written card's end, with a digest of the rest, by which a card that somebody edited is known.
TRAINING_MARK = "<!-- Written by tcm_hf's training, which writes it anew unless it is edited: {digest} -->\n"

_TEMPLATE = """---
{metadata}
---

# {title}

{introduction}

```python
import tcm_hf
from transformers import pipeline

detector = pipeline("text-detection", model="{repository}")
detector("photo.jpg", reading_order=True)
```

## Results

{results}
{training}
Papers: *Turning a CLIP Model into a Scene Text Detector* (CVPR 2023), *Turning a CLIP Model into a Scene Text Spotter*
(TPAMI 2024). {package}
"""
_TRAINING = """
## Training

| | |
|---|---|
{rows}
"""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_own_card(path: str | os.PathLike) -> bool:
    """
    Whether a card may be written anew: there is none, or it is as training wrote it.

    Args:
        path (`str` or `os.PathLike`): the file.
    """
    try:
        return is_unedited(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except ValueError:  # no UTF-8: not ours
        return False


def with_mark(text: str, mark: str = TRAINING_MARK) -> str:
    """A card with the mark of who wrote it at its end."""
    return text.rstrip() + "\n\n" + mark.format(digest=_digest(text.rstrip()))


def is_unedited(text: str, mark: str = TRAINING_MARK) -> bool:
    """Whether a card ends with a mark and nobody has edited it."""
    pattern = re.escape(mark.strip()).replace(re.escape("{digest}"), "([0-9a-f]{16})")
    marks = re.findall(pattern, text)
    return len(marks) == 1 and marks[0] == _digest(text[: text.rindex("<!--")].rstrip())


def model_card_text(
    config,
    *,
    repository: str,
    training: dict[str, object] | None = None,
    metrics: dict[str, float] | None = None,
    protocol: str | None = None,
    start: str | None = None,
    dataset: str | None = None,
    license: str | None = None,
) -> str:
    """
    The text of a model card.

    Args:
        config (`TCMConfig` or `None`): the model's configuration, as far as it is known.
        repository (`str`): Hub id of the model.
        training (`dict[str, object]`, *optional*): rows of the table of settings; by default nothing is told of a training.
        protocol (`str`, *optional*): by which the figures were measured, as far as it is known.
        metrics, start, dataset, license: see [`write_model_card`].

    Returns:
        `str`: Markdown with the Hub's metadata in front.
    """
    method = "TCM"
    if config is not None and not config.text_side:
        method = "the baseline without text side"
    elif config is not None and config.prompt_generator == "meta_query":
        method = "FastTCM"
    if config is not None:
        method += f" with the {config.detector.upper()} detector"
    results = []
    # Protocols that divide by nothing give NaN where nothing was found; the metadata has no such value.
    metrics = metrics or {}
    measured = all(math.isfinite(metrics.get(f"eval_{name}", math.nan)) for name in ("hmean", "precision", "recall"))
    # Where there are several sets, the figures without a name are means.
    sets = [match[1] for match in (re.fullmatch(r"eval_(.+)_num_images", name) for name in metrics) if match]
    if measured:
        for name in ("hmean", "precision", "recall"):
            results.append(
                EvalResult(
                    task_type="object-detection",
                    task_name="Text detection",
                    dataset_type=dataset or "unknown",
                    dataset_name=dataset or ", ".join(sets) or "validation images of the run",
                    metric_type=name,
                    metric_name=name if protocol is None else f"{name} ({protocol})",
                    metric_value=round(metrics[f"eval_{name}"], 4),
                )
            )
    hub_start = start if start is not None and not os.path.exists(start) and start.count("/") == 1 else None
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="object-detection",
        license=license,
        base_model=hub_start,
        datasets=[dataset] if dataset and not os.path.exists(dataset) else None,
        tags=["text-detection", "scene-text-detection", "tcm"],
        metrics=["hmean"] if measured else None,
        model_name=repository.split("/")[-1] if measured else None,
        eval_results=results or None,
    )
    if measured:
        rows = [("mean", ""), *((name, f"{name}_") for name in sets)] if sets else [("", "")]
        counts = [metrics.get(f"eval_{key}num_images") for _, key in (rows[1:] if sets else rows)]
        images = " and ".join(f"{int(count)} images" for count in counts if count)
        table = [
            "Measured by the run itself"
            + (f", by the protocol `{protocol}`" if protocol else "")
            + f", on {images or 'images'} that it was not trained on. Where checkpoints were chosen by the same images, figures are "
            "optimistic.",
            "",
            "| images | hmean | precision | recall |" if sets else "| hmean | precision | recall |",
            "|---" * (4 if sets else 3) + "|",
        ]
        for name, key in rows:
            figures = [f"{metrics[f'eval_{key}{figure}']:.4f}" for figure in ("hmean", "precision", "recall")]
            table.append("| " + " | ".join([name, *figures] if sets else figures) + " |")
    else:
        table = ["Nothing was measured: evaluate the model on your own data before you rely on it."]
    training_rows = origin = ""
    if training is not None:
        origin = f" It was fine-tuned from `{start}`." if start else " It was trained from scratch."
        training_rows = _TRAINING.format(
            rows="\n".join(f"| {name} | {value} |" for name, value in training.items() if value is not None)
        )
    return _TEMPLATE.format(
        metadata=data.to_yaml(),
        title=repository.split("/")[-1],
        introduction=f"A detector of scene text: {method}. It gives polygons of texts and does not read them.{origin}",
        repository=repository,
        results="\n".join(table),
        training=training_rows,
        package="Trained with the package `tcm_hf`." if training is not None else "Made with the package `tcm_hf`.",
    )


def write_model_card(
    output_dir: str | os.PathLike,
    config,
    *,
    training: dict[str, object],
    metrics: dict[str, float] | None = None,
    protocol: str = "icdar2015",
    start: str | None = None,
    dataset: str | None = None,
    repository: str | None = None,
    license: str | None = None,
) -> ModelCard:
    """
    Writes `README.md` for a trained model. One that is there already is kept, with a warning, unless training wrote it and
    nobody has edited it since.

    Args:
        output_dir (`str` or `os.PathLike`): the model's directory.
        config (`TCMConfig`): the model's configuration.
        training (`dict[str, object]`): rows of the table of settings.
        metrics (`dict[str, float]`, *optional*):
            `eval_hmean`, `eval_precision`, `eval_recall` and `eval_num_images`; of several sets `eval_NAME_hmean` and so on, and
            the means.
        protocol (`str`, *optional*, defaults to `"icdar2015"`): by which they were measured.
        start (`str`, *optional*): the checkpoint that training began with.
        dataset (`str`, *optional*): Hub id of the data set.
        repository (`str`, *optional*): Hub id of the model; by default the directory's name.
        license (`str`, *optional*): license of the weights; depends on the start and on the data, so there is no default.

    Returns:
        `huggingface_hub.ModelCard`: what was written, or kept.
    """
    path = Path(output_dir) / "README.md"
    if not is_own_card(path):
        logger.warning(
            "%s was written or edited by hand and is kept: see to it that its figures are those of this run", path
        )
        return ModelCard(path.read_text(encoding="utf-8", errors="replace"), ignore_metadata_errors=True)
    text = model_card_text(
        config,
        repository=repository or Path(output_dir).resolve().name,
        training=training,
        metrics=metrics,
        protocol=protocol,
        start=start,
        dataset=dataset,
        license=license,
    )
    text = with_mark(text)
    card = ModelCard(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return card
