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
"""The model card of a converted model."""

from ..model.configuration_towers import PROMPT_TOKEN_IDS
from ..model.detectors import find_detector
from .layouts import conversion_rules


CARD_NAME = "README.md"

_LICENSES = {
    "tcm": (
        "cc-by-nc-4.0",
        "The official TCM weights are published under CC-BY-NC 4.0: no commercial use, and whoever passes them on names "
        "their authors. The conversion does not change that. The code of `tcm_hf` is under Apache-2.0.",
    ),
    "clip": (
        "mit",
        "OpenAI publishes CLIP's weights under the MIT license, and so do the authors of open_clip theirs. Where these "
        "weights came from another place, its license holds instead: then correct the one above. The code of `tcm_hf` "
        "is under Apache-2.0.",
    ),
}
_PAPERS = (
    "TCM is described in *Turning a CLIP Model into a Scene Text Detector* (CVPR 2023), FastTCM in *Turning a CLIP Model "
    "into a Scene Text Spotter* (TPAMI 2024)."
)


def model_card(report, config, processor) -> str:
    """
    The card of a converted model.

    Args:
        report (`ConversionReport`): of the conversion.
        config (`TCMConfig`): of the model.
        processor (`TCMImageProcessor`): of the model.

    Returns:
        `str`: Markdown with the Hub's metadata in front.
    """
    license_id, license_text = _LICENSES["tcm" if report.trained_detector else "clip"]
    name = _method_name(config)
    metadata = [
        "---",
        "library_name: transformers",
        "pipeline_tag: object-detection",
        f"license: {license_id}",
        "tags:",
        "- text-detection",
        "- scene-text-detection",
        "- tcm",
        "---",
    ]
    sections = [
        f"# {name}, converted from {report.source}",
        _introduction(report, config, name),
        "## Use\n\n" + _usage(report),
        "## Source\n\n" + _source(report),
        "## License\n\n" + license_text,
        "## Settings\n\n" + _settings(report, config, processor),
    ]
    if report.trained_detector:
        differences = _differences(config, report)
        if differences:
            sections.append(
                "## Where the released model differs from the papers\n\n" + "\n".join(f"- {d}" for d in differences)
            )
        sections.append("## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(config)))
    sections.append("## What the conversion changed\n\n" + _changes(report))
    return "\n".join(metadata) + "\n\n" + "\n\n".join(sections) + "\n"


def _method_name(config) -> str:
    detector, rules = find_detector(config.detector).display_name, conversion_rules(config.detector)
    if not config.text_side:
        return f"{(rules and rules.baseline) or detector} on CLIP's image tower"
    return f"{'FastTCM' if config.prompt_generator == 'meta_query' else 'TCM'}-{detector}"


def _introduction(report, config, name) -> str:
    tower = {"clip_resnet": "ResNet", "convnext": "ConvNeXt"}.get(config.vision_config.model_type, "ViT")
    if report.trained_detector:
        return f"A detector of scene text: {name}, with CLIP's {tower} image tower. {_PAPERS}"
    return (
        f"**The detector is untrained.** CLIP's {tower} image tower{' and text tower' if config.text_side else ''} "
        f"come from {report.source}; everything else of {name}, the detector included, has initial values. This is a "
        f"starting point for training, its detections mean nothing. {_PAPERS}"
    )


def _usage(report) -> str:
    if report.trained_detector:
        return (
            "```python\nimport tcm_hf\nfrom transformers import pipeline\n\n"
            'detector = pipeline("text-detection", model="<this directory or its Hub id>")\n'
            'detector("photo.jpg", reading_order=True)\n```'
        )
    return (
        "```python\nfrom tcm_hf import TCMForTextDetection, TCMImageProcessor\n\n"
        'model = TCMForTextDetection.from_pretrained("<this directory or its Hub id>")\n'
        "model.freeze_text_tower()\n"
        'processor = TCMImageProcessor.from_pretrained("<this directory or its Hub id>")\n```'
    )


def _source(report) -> str:
    lines = [f"{report.layout_title[0].upper()}{report.layout_title[1:]}. Converted by tcm_hf {report.version}.", ""]
    lines += ["| file | SHA-256 |", "|---|---|"]
    lines += [f"| {name} | `{digest}` |" for name, digest in report.files.items()]
    return "\n".join(lines)


def _settings(report, config, processor) -> str:
    rows = [("detector", config.detector)]
    if config.text_side:
        rows += [
            ("prompt", _prompt(config)),
            ("context vectors", config.num_context_vectors),
            ("language prompt generator", config.prompt_generator or "none"),
            ("visual prompt generator", "yes" if config.visual_prompt else "no"),
            ("context decoder", "yes" if config.context_decoder else "no"),
            ("text tower's activation", config.text_config.hidden_act),
        ]
    else:
        rows.append(("text side", "none"))
    size = ", ".join(f"{key} {value}" for key, value in dict(processor.size).items())
    if report.preset is None:
        size += ", smaller images are not enlarged"
    rows += [
        ("image size", size + f", padded to multiples of {processor.size_divisor}"),
        ("mean, RGB in 0..255", ", ".join(f"{value * 255:.3f}" for value in processor.image_mean)),
        ("standard deviation", ", ".join(f"{value * 255:.3f}" for value in processor.image_std)),
        ("preset of size and thresholds", report.preset or "none, the package's defaults"),
    ]
    rows += [(f"decoding: {key}", value) for key, value in sorted(processor.decoding_arguments().items())]
    return "\n".join(["| setting | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


def _prompt(config) -> str:
    if not config.prompt_token_ids:
        return "none, context vectors only"
    return (
        config.prompt if list(config.prompt_token_ids) == PROMPT_TOKEN_IDS.get(config.prompt) else "given as token ids"
    )


def _differences(config, report) -> list[str]:
    """What the released models do otherwise than the papers' formulas say, as far as this model has the part."""
    items = []
    if config.text_side:
        items += [
            f"The prompt ({_prompt(config)}) takes the place of the paper's word “Text”. "
            + (
                f"The text tower reads the start token, {config.num_context_vectors} learned vectors, the rest of the prompt "
                "and the end token; "
                if config.prompt_token_ids
                else f"The text tower reads {config.num_context_vectors} learned vectors and nothing else; "
            )
            + f"its positional table has {config.text_config.max_position_embeddings} rows.",
            "The attention pooling keeps its spatial tokens beside the global one, and its positional table is resampled "
            "bilinearly to every image.",
        ]
        if config.prompt_generator is not None:
            items.append("The language prompt generator's activation is ReLU.")
        if config.visual_prompt:
            items.append(
                "The visual prompt generator normalizes first, lets the pixels attend to each other before they attend to "
                "the text, and is scaled by a single learned number."
            )
        if config.context_decoder:
            items.append(
                "A second decoder, which the formulas do not have, refines the text embedding by the image, with a "
                "learned scale for each channel."
            )
        if config.scale_score_map:
            items.append(
                "What is concatenated to the last feature map is the cosine of pixels and text over the temperature, which "
                f"was learned ({config.temperature:g}), and not its sigmoid."
            )
        else:
            items.append(
                "What is concatenated to the last feature map is the plain cosine of pixels and text, not the sigmoid of "
                f"the cosine over the temperature ({config.temperature:g}), which only the auxiliary loss sees."
            )
    if config.prompt_generator == "meta_query" and config.text_side:
        if "pix_w" in report.left_over:
            items.append(
                "FastTCM's projection of the global embedding was released with a shape that its own code cannot "
                "multiply. It is left out: the projection is the identity, which is the paper's definition. So this model "
                "has no official output to be compared with."
            )
        else:
            items.append("FastTCM's bimodal matching projects the global embedding by a learned square matrix.")
    items.append("Images are normalized with statistics other than CLIP's, see the settings.")
    return items


def _limits(config) -> list[str]:
    limits = [
        "The authors chose checkpoints and thresholds on the test sets of the benchmarks, so that published figures are "
        "optimistic for other images.",
        "The conversion measures nothing: evaluate the model on your own data before you rely on it.",
    ]
    if config.text_side:
        limits.append(
            "The text tower was meant to be frozen, but drifted slightly in the official training; with `tcm_hf` it stays."
        )
        rules = conversion_rules(config.detector)
        limits += rules.limits if rules is not None else ()
    return limits


def _changes(report) -> str:
    lines = [
        f"{len(report.mapped)} weights were taken over unchanged, in fp32. `conversion_report.json` lists every one of "
        "them, and all that follows."
    ]
    for title, entries in (("Left over", report.left_over), ("New", report.new)):
        for reason in dict.fromkeys(entries.values()):
            keys = [key for key, value in entries.items() if value == reason]
            names = ", ".join(f"`{key}`" for key in keys[:2]) + (", …" if len(keys) > 2 else "")
            lines.append(f"- {title}, {len(keys)}: {reason} ({names}).")
    lines += [f"- Note: {note}." for note in report.notes]
    return "\n".join([lines[0], "", *lines[1:]]) if len(lines) > 1 else lines[0]
