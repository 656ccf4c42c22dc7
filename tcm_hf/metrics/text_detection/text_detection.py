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
"""Text detection metrics for the `evaluate` library: `evaluate.load(tcm_hf.metrics.EVALUATE_MODULE, "icdar2015")`."""

import datasets
import evaluate

from tcm_hf.metrics import TextDetectionEvaluator, get_protocol
from tcm_hf.metrics.evaluator import check_sides


_DESCRIPTION = """
Precision, recall and hmean of scene text detection, by the official protocols of the benchmarks. The configuration names
the protocol: "icdar2015" (default), "icdar2013", "totaltext", "ctw1500", "td500", "mlt", "art", "mmocr", or any key of
`tcm_hf.metrics.PROTOCOLS`.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of `dict`, or list of lists of `dict`): One entry for each image: what the text-detection pipeline
        returns for it (a list of dictionaries with "polygon" and "score"), or {"polygons": list of [[x, y], ...], in
        pixels, "scores": list of float, optional}.
    references (list of `dict`): One for each image: {"polygons": as above, "ignore": list of bool, optional, "texts": list
        of str, optional ("###" means "don't care"), "languages": list of str, optional}. A `TextRecord` does as well.
    score_threshold (`float`, *optional*): Detections with a lower score are dropped first.
    language (`str`, *optional*): Writing system to which the protocols of MLT are restricted.
    per_image (`bool`, *optional*, defaults to `False`): Whether to return the figures of every image, too.

Returns:
    `dict` with "precision", "recall" and "hmean" (fractions) and the counts they are made of.

Example:

    >>> import evaluate
    >>> import tcm_hf.metrics

    >>> metric = evaluate.load(tcm_hf.metrics.EVALUATE_MODULE, "icdar2015")
    >>> square = [[0, 0], [10, 0], [10, 10], [0, 10]]
    >>> metric.add_batch(predictions=[[{"polygon": square, "score": 0.9}]], references=[{"polygons": [square]}])
    >>> metric.compute()["hmean"]
    1.0
"""

_CITATION = """
@inproceedings{karatzas2015icdar,
  title = {{ICDAR} 2015 competition on robust reading},
  author = {Karatzas, Dimosthenis and others},
  booktitle = {International Conference on Document Analysis and Recognition},
  year = {2015}
}
"""

_OUTLINES = datasets.Sequence(datasets.Sequence(datasets.Sequence(datasets.Value("float64"))))


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class TextDetection(evaluate.Metric):
    """The protocols as an `evaluate` metric; batches are kept on disk as for any other."""

    def _info(self):
        name = "icdar2015" if self.config_name in (None, "default") else self.config_name
        try:
            self.protocol = get_protocol(name)
        except ValueError as error:
            raise KeyError(str(error)) from None
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": {
                        "polygons": _OUTLINES,
                        "scores": datasets.Sequence(datasets.Value("float64")),
                        "scored": datasets.Value("bool"),
                    },
                    "references": {
                        "polygons": _OUTLINES,
                        "ignore": datasets.Sequence(datasets.Value("bool")),
                        "texts": datasets.Sequence(datasets.Value("string")),
                        "languages": datasets.Sequence(datasets.Value("string")),
                    },
                }
            ),
            reference_urls=["https://rrc.cvc.uab.es", "https://github.com/cs-chan/Total-Text-Dataset"],
        )

    def add(self, *, prediction=None, reference=None, **kwargs):
        """Adds one image."""
        check_sides(prediction, reference, "image")
        super().add(prediction=_prediction(prediction), reference=_reference(reference), **kwargs)

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Adds several images."""
        for index, (prediction, reference) in enumerate(zip(predictions, references)):
            check_sides(prediction, reference, f"image {index} of the batch")
        super().add_batch(
            predictions=[_prediction(prediction) for prediction in predictions],
            references=[_reference(reference) for reference in references],
            **kwargs,
        )

    def _compute(self, predictions, references, score_threshold=None, language=None, per_image=False):
        evaluator = TextDetectionEvaluator(self.protocol, language=language)
        for prediction, reference in zip(predictions, references):
            scores = prediction["scores"] if prediction["scored"] else None
            # An empty list of languages in an image with text means that it names none.
            languages = reference["languages"] if len(reference["languages"]) == len(reference["polygons"]) else None
            evaluator.add(
                {"polygons": prediction["polygons"], "scores": scores}, {**reference, "languages": languages}
            )
        result = evaluator.compute(score_threshold)
        if not per_image:
            result.pop("per_image")
            if "no_score_filter" in result:
                result["no_score_filter"].pop("per_image")
        return result


def _outlines(polygons) -> list:
    outlines = []
    for polygon in polygons:
        points = polygon.tolist() if hasattr(polygon, "tolist") else list(polygon)
        flat = bool(points) and not hasattr(points[0], "__len__")
        outlines.append([points[i : i + 2] for i in range(0, len(points), 2)] if flat else [list(p) for p in points])
    return outlines


def _prediction(prediction) -> dict:
    if not hasattr(prediction, "keys"):
        scores = [detection.get("score") for detection in prediction]
        prediction = {
            "polygons": [detection["polygon"] for detection in prediction],
            "scores": None if None in scores else scores,
        }
    scores = prediction.get("scores")
    return {
        "polygons": _outlines(prediction["polygons"]),
        "scores": [] if scores is None else [float(score) for score in scores],
        "scored": scores is not None,
    }


def _reference(reference) -> dict:
    get = reference.get if hasattr(reference, "keys") else lambda name: getattr(reference, name, None)
    polygons = _outlines(get("polygons"))
    ignore, texts, languages = get("ignore"), get("texts"), get("languages")
    return {
        "polygons": polygons,
        "ignore": [False] * len(polygons) if ignore is None else [bool(flag) for flag in ignore],
        "texts": [""] * len(polygons) if texts is None else [text or "" for text in texts],
        "languages": [] if languages is None else [language or "" for language in languages],
    }
