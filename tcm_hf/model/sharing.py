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
"""Publishing on the Hub: what a repository or a folder already has is kept, and a new repository gets a real model card."""

import json
import os
import re
import shutil
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError
from transformers.utils import CONFIG_NAME, PushToHubMixin

from .detector_sharing import save_own_detector
from .model_card import is_unedited, model_card_text, with_mark


CARD_NAME = "README.md"
# Stands at the end of cards that `push_to_hub` made up, with a digest of the rest, so that an edited one is known.
MARK = "<!-- Written by tcm_hf's push_to_hub, which writes it anew unless it is edited: {digest} -->\n"
# What transformers writes into the card of a new repository.
_TEMPLATE_DESCRIPTION = (
    "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
    "automatically generated."
)
# Files with figures of an evaluation that training leaves beside the weights.
_RESULT_FILES = ("all_results.json", "eval_results.json", "trainer_state.json")
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")


def known_source(name_or_path: str | os.PathLike) -> str:
    """A Hub id, or a directory by its full name: from another place its short name could be that of a repository."""
    return os.path.abspath(name_or_path) if os.path.isdir(name_or_path) else str(name_or_path)


class SharingMixin(PushToHubMixin):
    """
    Makes `push_to_hub` and `save_pretrained(..., push_to_hub=True)` keep what a repository has: its model card, and the
    pipeline that its configuration names, without which it works only for those who installed this package.

    The card of a new repository is that of the directory or repository which the weights came from, as long as they
    were not trained since, and otherwise one that tells what the model is, how it is used and what was measured.
    """

    #: Directory or Hub id whose model card holds for this object, or `None`.
    card_source: str | None = None

    def _upload_modified_files(  # type: ignore[override]  # of these three by position, and all else by name
        self, working_dir, repo_id, files_timestamps, token=None, revision=None, **kwargs
    ):  # called by all of transformers' ways to upload
        def is_new(name: str) -> bool:
            path = os.path.join(working_dir, name)
            return os.path.isfile(path) and files_timestamps.get(name, 0) < os.path.getmtime(path)

        repository = _Repository(repo_id, revision, token)
        save_own_detector(working_dir, getattr(_config(self) or self, "detector", None))
        if is_new(CONFIG_NAME):
            _keep_pipelines(os.path.join(working_dir, CONFIG_NAME), repository)
        if is_new(CARD_NAME):
            _write_card(self, working_dir, repository)
        return super()._upload_modified_files(
            working_dir, repo_id, files_timestamps, token=token, revision=revision, **kwargs
        )


class ProcessorSharingMixin(SharingMixin):
    """The same for image processors, which themselves do not know where they came from."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """
        Loads a saved processor, see [`~transformers.ImageProcessingMixin.from_pretrained`] for all arguments.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
        """
        loaded = super().from_pretrained(  # type: ignore[misc]  # of the class that this one is mixed into
            pretrained_model_name_or_path, **kwargs
        )
        processor = loaded[0] if isinstance(loaded, tuple) else loaded  # with `return_unused_kwargs`
        processor.card_source = known_source(pretrained_model_name_or_path)
        return loaded

    def to_dict(self) -> dict[str, Any]:
        """The settings, as they are saved."""
        settings = super().to_dict()  # type: ignore[misc]  # likewise
        return {key: value for key, value in settings.items() if key != "card_source"}


class _Repository:
    """A repository of the Hub at a revision, or at its main branch where this one is new."""

    def __init__(self, repo_id: str, revision: str | None, token: str | bool | None):
        self.repo_id, self.revision, self.token = repo_id, revision, token

    def find(self, name: str) -> str | None:
        """Path of a copy of a file, or `None` where there is none."""
        for revision in dict.fromkeys((self.revision, None)):
            try:
                return hf_hub_download(self.repo_id, name, revision=revision, token=self.token)
            except RevisionNotFoundError:
                continue
            except EntryNotFoundError:
                return None
        return None

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self.find(name) is not None


def _read_config(path: str | os.PathLike | None) -> dict | None:
    """A configuration of TCM, or `None` where there is no file or it is something else."""
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and config.get("model_type") == "tcm" else None


def _keep_pipelines(path: str | os.PathLike, repository: _Repository) -> None:
    """Adds to a configuration that is going to be uploaded the pipelines that the repository's names."""
    published = repository.find(CONFIG_NAME)
    config, old = _read_config(path), published and _read_config(published)
    pipelines = (old or {}).get("custom_pipelines")
    if config is None or not isinstance(pipelines, dict):
        return
    new = config.get("custom_pipelines") or {}
    missing = {task: entry for task, entry in pipelines.items() if task not in new}
    missing = with_code(missing, repository.has)
    if missing:
        config["custom_pipelines"] = {**missing, **new}
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent=2, sort_keys=True) + "\n")


def with_code(pipelines: dict[str, dict], has_file) -> dict[str, dict]:
    """
    The pipelines whose code is there. Only a pipeline saves its own code, so without it a checkpoint must not name it.

    Args:
        pipelines (`dict[str, dict]`): `custom_pipelines` of a configuration.
        has_file (`Callable`): tells whether there is a file of a name.

    Returns:
        `dict[str, dict]`: those of them.
    """
    found = {}
    for task, entry in pipelines.items():
        impl = entry.get("impl") if isinstance(entry, dict) else None
        module = re.match(r"\w+(?=\.)", impl) if isinstance(impl, str) else None
        if module and has_file(f"{module[0]}.py"):
            found[task] = entry
    return found


def saved_pipelines(directory: str | os.PathLike, new: dict[str, dict] | None = None) -> dict[str, dict]:
    """The `custom_pipelines` of the configuration in a directory and new ones, as far as their code is there too."""
    old = (_read_config(os.path.join(directory, CONFIG_NAME)) or {}).get("custom_pipelines")
    entries = {**(old if isinstance(old, dict) else {}), **(new or {})}
    return with_code(entries, lambda file: os.path.isfile(os.path.join(directory, file)))


# ---------------------------------------------------------------------- model cards


def is_generated(text: str) -> bool:
    """Whether nobody has written anything into a model card: it is transformers' template, or `push_to_hub`'s own."""
    template = ModelCard.from_template(ModelCardData(), model_description=_TEMPLATE_DESCRIPTION)
    return is_unedited(text, MARK) or ModelCard(text).text.split() == template.text.split()


def _read(path: str | os.PathLike) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def _write_card(shared, working_dir: str | os.PathLike, repository: _Repository) -> None:
    path = os.path.join(working_dir, CARD_NAME)
    data: Any = ModelCard(_read(path)).data
    tags = data.tags or []  # with those that the caller gave
    published = repository.find(CARD_NAME)
    text = None if published is None else _read(published)
    if text is None or is_generated(text):
        text = _card_of_source(shared, working_dir) or _new_card(shared, repository.repo_id, published=text)
    elif is_unedited(text) and _config(shared) is not None:
        # Training wrote it, about weights that are replaced now.
        text = _card_of_source(shared, working_dir) or text
    card = ModelCard(text)
    data = card.data
    new_tags = [tag for tag in tags if tag not in (data.tags or [])]
    if new_tags:
        data.tags = [*(data.tags or []), *new_tags]
        text = str(card)
    # As it is, line ends included: even a card that is kept word for word.
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def _card_of_source(shared, working_dir: str | os.PathLike) -> str | None:
    """The card of what the object was loaded from; the images beside it that it shows are put into the folder."""
    source = shared.card_source
    if source is None:
        return None
    if os.path.isdir(source):
        path = os.path.join(source, CARD_NAME)
    else:
        try:
            path = hf_hub_download(source, CARD_NAME, revision=getattr(_config(shared), "_commit_hash", None))
        except (HfHubHTTPError, OSError, ValueError):
            return None
    if not os.path.isfile(path):
        return None
    text = _read(path)
    if is_generated(text):
        return None
    for name in re.findall(r"""(?:\]\(|src=["'])([\w.-]+)""", text):
        picture = os.path.join(os.path.dirname(path), name)
        if name.lower().endswith(_PICTURES) and os.path.isfile(picture) and not os.path.islink(picture):
            shutil.copyfile(picture, os.path.join(working_dir, name))
    return text


def _config(shared):
    """The configuration of a pipeline, of a model or the configuration itself; `None` for a processor."""
    if hasattr(shared, "detector_config"):
        return shared
    return getattr(shared, "config", None) or getattr(getattr(shared, "model", None), "config", None)


def _new_card(shared, repo_id: str, published: str | None) -> str:
    """What is known of an object without a card; a processor, which knows no model, leaves a better one alone."""
    config = _config(shared)
    if config is None and published is not None and is_unedited(published, MARK):
        return published
    metrics = known_metrics(shared.card_source)
    return with_mark(model_card_text(config, metrics=metrics, repository=repo_id), MARK)


def known_metrics(directory: str | os.PathLike | None) -> dict[str, float] | None:
    """
    The figures that training left beside a model's weights.

    Args:
        directory (`str` or `os.PathLike`, *optional*): the model's directory.

    Returns:
        `dict[str, float]` or `None`: `eval_hmean`, `eval_precision`, `eval_recall` and, where known, `eval_num_images`.
    """
    for name in _RESULT_FILES if directory is not None else ():
        try:
            with open(os.path.join(directory or "", name), encoding="utf-8") as file:
                results = json.load(file)
        except (OSError, ValueError):
            continue
        if not isinstance(results, dict):
            continue
        entries = [results, *reversed(results.get("log_history") or [])]
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("eval_hmean"), int | float):
                return {key: value for key, value in entry.items() if key.startswith("eval_")}
    return None
