"""The example scripts run on toy data."""

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from example_runs import EXAMPLES, SMALL, logged_losses, photos, run, run_here
from hub_server import HubServer
from PIL import Image
from safetensors.torch import load_file
from toy_photos import write_toy_photos, write_toy_shards
from transformers import pipeline

from tcm_hf import TCMForTextDetection, TCMImageProcessor


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    return write_toy_photos(tmp_path_factory.mktemp("toy"), 5)


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def trained(toy_data, hub):
    """Output directory of a training run of four steps, which was uploaded at its end."""
    hub_settings = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_test"}
    result = run(
        "train_text_detection.py",
        *("--config_name", toy_data / "config.json", "--output_dir", toy_data / "run"),
        *(*photos(toy_data), *SMALL),
        *("--max_steps", 4, "--per_device_train_batch_size", 2, "--save_steps", 2),
        *("--synthetic_fraction", 0.5, "--paste_probability", 0.5, "--report_to", "none"),
        *("--push_to_hub", "--hub_model_id", "tester/toy", "--hub_strategy", "end"),
        **{**hub_settings, "HF_HOME": str(toy_data / "cache"), "NO_PROXY": "127.0.0.1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "4 images with 4 words" in result.stderr and "1 images to measure on" in result.stderr
    return toy_data / "run"


def test_training_writes_a_checkpoint_that_differs_from_its_start(trained):
    first = TCMForTextDetection.from_pretrained(trained / "checkpoint-2")
    last = TCMForTextDetection.from_pretrained(trained)
    name = "detector.probability_branch.0.weight"
    assert not torch.equal(first.state_dict()[name], last.state_dict()[name])
    log = json.loads((trained / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    terms = [{k for k in entry if k.startswith("loss_")} for entry in log if "loss" in entry]
    assert terms == [{"loss_probability", "loss_threshold", "loss_binary", "loss_auxiliary"}] * 4


def test_training_leaves_a_model_to_use_and_publishes_it(trained, toy_data, hub):
    detector = pipeline("text-detection", model=str(trained))
    assert isinstance(detector(str(toy_data / "images" / "img_1.jpg")), list)
    assert (trained / "pipeline_text_detection.py").is_file() and (trained / "modeling_tcm.py").is_file()
    figures = json.loads((trained / "eval_results.json").read_text(encoding="utf-8"))
    assert 0 <= figures["eval_hmean"] <= 1 and figures["eval_num_images"] == 1
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert f"| {figures['eval_hmean']:.4f} |" in card and "| images | 4 |" in card and "model-index" in card
    files = hub.files("tester/toy")
    assert files["README.md"].decode() == card and 'model="tester/toy"' in card
    assert files["model.safetensors"] == (trained / "model.safetensors").read_bytes()
    needed = {"config.json", "preprocessor_config.json", "modeling_tcm.py", "pipeline_text_detection.py"}
    assert needed <= set(files) and not any("checkpoint-" in name for name in files)


@pytest.mark.parametrize("script", ["train_text_detection.py", "train_text_detection_no_trainer.py"])
@pytest.mark.parametrize(
    "wrong, message",
    [
        (("--model_name_or_path", "somewhere"), "exactly one of --model_name_or_path"),
        (("--train_dir", "somewhere"), "somewhere: no such folder"),
        (("--shots", 9), "number of images, 5"),
    ],
)
def test_training_refuses_what_makes_no_sense(monkeypatch, toy_data, script, wrong, message):
    with pytest.raises(SystemExit, match=message):
        run_here(
            monkeypatch,
            script,
            *("--config_name", toy_data / "config.json", "--output_dir", toy_data / "none", "--use_cpu", *wrong),
            *("--image_dir", toy_data / "images", "--gt_dir", toy_data / "gt"),
        )


KILLED = """
import os, runpy, signal, sys
from tcm_hf.training.trainer import TCMTrainer
step = TCMTrainer.training_step

def training_step(self, *inputs, **settings):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *inputs, **settings)

TCMTrainer.training_step = training_step
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(toy_data, tmp_path):
    # All of it in processes of their own: what other tests leave behind must not make one of the runs differ.
    settings = (
        *("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL, "--disable_tqdm", "true"),
        # Two and a half epochs, checkpoints in the middle of them, batches that are put together.
        *("--max_steps", 5, "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2),
        *("--samples_per_epoch", 8, "--save_steps", 3, "--eval_strategy", "steps", "--eval_steps", 3),
    )
    unbroken = run("train_text_detection.py", *settings, "--output_dir", tmp_path / "unbroken")
    assert unbroken.returncode == 0, unbroken.stderr[-3000:]
    command = [sys.executable, "-c", KILLED, EXAMPLES / "train_text_detection.py", *settings]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [*map(str, command), "--output_dir", str(tmp_path / "killed")], capture_output=True, env=environment
    )
    assert killed.returncode == -9, killed.stderr.decode()[-3000:]
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    # What a run leaves that is killed while it writes.
    (tmp_path / "killed" / "checkpoint-4").mkdir()
    (tmp_path / "killed" / "checkpoint-4" / "model.safetensors").write_bytes(b"half")
    resumed = run(
        "train_text_detection.py",
        *(*settings, "--output_dir", tmp_path / "killed", "--resume_from_checkpoint", "last"),
        # The number of workers does not matter.
        *("--dataloader_num_workers", 1),
    )
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert len(logged_losses(tmp_path / "unbroken")) == 5
    assert logged_losses(tmp_path / "killed") == logged_losses(tmp_path / "unbroken")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("killed", "unbroken")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_loop_of_its_own_trains_as_the_trainer_does_and_resumes(monkeypatch, toy_data, tmp_path):
    shared = (
        *("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL),
        *("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2, "--samples_per_epoch", 8),
    )
    loop = (*shared, "--max_train_steps", 5, "--checkpointing_steps", 3, "--checkpoints_total_limit", 1)
    name = "train_text_detection_no_trainer.py"
    run_here(monkeypatch, name, *loop, "--output_dir", tmp_path / "loop")
    run_here(monkeypatch, "train_text_detection.py", *shared, "--max_steps", 5, "--output_dir", tmp_path / "trainer")
    log = json.loads((tmp_path / "loop" / "all_results.json").read_text(encoding="utf-8"))["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses == pytest.approx(logged_losses(tmp_path / "trainer"), rel=1e-6)
    weights = [load_file(tmp_path / folder / "model.safetensors") for folder in ("loop", "trainer")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())

    # Started again from its checkpoint in the middle.
    (tmp_path / "again").mkdir()
    (tmp_path / "loop" / "checkpoint-3").rename(tmp_path / "again" / "checkpoint-3")
    again = (*loop, "--output_dir", tmp_path / "again", "--resume_from_checkpoint", "last")
    run_here(monkeypatch, name, *again)
    log = json.loads((tmp_path / "again" / "all_results.json").read_text(encoding="utf-8"))["log"]
    assert [entry["loss"] for entry in log if "loss" in entry] == losses
    resumed = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(value, weights[1][name]) for name, value in resumed.items())
    assert (tmp_path / "again" / "README.md").is_file() and (
        tmp_path / "again" / "pipeline_text_detection.py"
    ).is_file()


@pytest.mark.parametrize("detector, text_side", [("pan", "true"), ("fce", "false")])
def test_the_other_detectors_train_from_a_checkpoint(monkeypatch, toy_data, trained, tmp_path, detector, text_side):
    run_here(
        monkeypatch,
        "train_text_detection.py",
        *(
            "--model_name_or_path",
            trained,
            "--detector",
            detector,
            "--text_side",
            text_side,
            *photos(toy_data),
            *SMALL,
        ),
        *("--shots", 3, "--max_steps", 2, "--per_device_train_batch_size", 2, "--output_dir", tmp_path),
    )
    model = TCMForTextDetection.from_pretrained(tmp_path)
    assert model.config.detector == detector and model.config.text_side == (text_side == "true")
    assert TCMImageProcessor.from_pretrained(tmp_path).detector == detector
    subset = json.loads((tmp_path / "subset.json").read_text(encoding="utf-8"))
    assert subset["count"] == 3 and subset["total"] == 4 and "img_4.jpg" not in subset["images"]
    assert len(logged_losses(tmp_path)) == 2


def test_rows_of_a_data_set_train_at_once_and_as_a_stream(monkeypatch, toy_data, tmp_path):
    pytest.importorskip("datasets")
    shared = ("--config_name", toy_data / "config.json", *SMALL, "--max_steps", 3, "--per_device_train_batch_size", 2)
    for number, source in enumerate(
        [
            ("--dataset_name", toy_data / "hub", "--validation_split", "train", "--max_eval_samples", 2),
            ("--train_dir", toy_data / "hub", "--streaming"),
        ]
    ):
        run_here(monkeypatch, "train_text_detection.py", *shared, *source, "--output_dir", tmp_path / str(number))
        assert len(logged_losses(tmp_path / str(number))) == 3
    assert (tmp_path / "0" / "eval_results.json").is_file() and not (tmp_path / "1" / "eval_results.json").exists()
    with pytest.raises(SystemExit, match="needs --max_steps"):
        run_here(
            monkeypatch,
            "train_text_detection.py",
            *("--config_name", toy_data / "config.json", "--train_dir", toy_data / "hub", "--streaming", "--use_cpu"),
            *("--output_dir", tmp_path / "endless"),
        )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    pytest.importorskip("datasets")
    return write_toy_shards(tmp_path_factory.mktemp("shards") / "toy", 8, 4)


@pytest.mark.parametrize(
    "script, steps",
    [
        ("train_text_detection.py", ("--max_steps", "--save_steps")),
        ("train_text_detection_no_trainer.py", ("--max_train_steps", "--checkpointing_steps")),
    ],
)
def test_a_stream_of_several_files_goes_on_after_a_break(monkeypatch, toy_data, shards, tmp_path, script, steps):
    """Five steps are more than one pass over the files."""
    # `datasets` sleeps for five seconds at the end of each pass over several files.
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    settings = (
        *("--config_name", toy_data / "config.json", *SMALL, "--per_device_train_batch_size", 2),
        *("--dataset_name", shards, "--streaming", "--shuffle_buffer", 3, "--dataloader_num_workers", 2),
        *(steps[0], 5, steps[1], 3, "--cache_dir", tmp_path / "cache"),
    )
    run_here(monkeypatch, script, *settings, "--output_dir", tmp_path / "unbroken")
    losses = logged_losses(tmp_path / "unbroken")
    assert len(losses) == 5 == len(set(losses))
    (tmp_path / "again").mkdir()
    (tmp_path / "unbroken" / "checkpoint-3").rename(tmp_path / "again" / "checkpoint-3")
    run_here(monkeypatch, script, *settings, "--output_dir", tmp_path / "again", "--resume_from_checkpoint", "last")
    assert logged_losses(tmp_path / "again")[-2:] == losses[-2:]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "again")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_rows_of_several_files_train_at_once(monkeypatch, toy_data, shards, tmp_path):
    run_here(
        monkeypatch,
        "train_text_detection_no_trainer.py",
        *("--config_name", toy_data / "config.json", *SMALL, "--per_device_train_batch_size", 4),
        *("--dataset_name", shards, "--train_val_split", 0.25, "--num_train_epochs", 1, "--output_dir", tmp_path),
    )
    results = json.loads((tmp_path / "all_results.json").read_text(encoding="utf-8"))
    assert results["step"] == 2 and results["eval_num_images"] == 2


@pytest.mark.parametrize("script", ["train_text_detection.py", "train_text_detection_no_trainer.py"])
def test_the_card_that_is_pushed_has_the_measured_figures(monkeypatch, toy_data, tmp_path, script):
    """Without `--hub_model_id` the repository is the user's, named as the directory is."""
    pushed = []

    def create_repo(self, repo_id, **settings):
        return huggingface_hub.RepoUrl(f"https://huggingface.co/tester/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, **settings):
        pushed.append((repo_id, {p.name: p.read_bytes() for p in Path(folder_path).iterdir() if p.is_file()}))

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    steps = "--max_train_steps" if "no_trainer" in script else "--max_steps"
    run_here(
        monkeypatch,
        script,
        *("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL, steps, 1),
        *("--per_device_train_batch_size", 2, "--push_to_hub", "--output_dir", tmp_path / "words"),
        *(() if "no_trainer" in script else ("--hub_strategy", "end")),
    )
    ((repository, files),) = pushed
    results = json.loads((tmp_path / "words" / "all_results.json").read_text(encoding="utf-8"))
    card = files["README.md"].decode()
    metadata = huggingface_hub.ModelCard(card).data
    assert repository == "tester/words" and 'model="tester/words"' in card
    names = ("hmean", "precision", "recall")
    assert "| " + " | ".join(f"{results[f'eval_{name}']:.4f}" for name in names) + " |" in card
    figures = {result.metric_type: result.metric_value for result in metadata.eval_results}
    assert figures == {name: round(results[f"eval_{name}"], 4) for name in names}
    assert metadata.model_name == "words" and metadata.pipeline_tag == "object-detection"
    assert {"model.safetensors", "preprocessor_config.json", "pipeline_text_detection.py"} <= set(files)
    assert "text-detection" in json.loads(files["config.json"])["custom_pipelines"]


def test_the_loop_of_its_own_ends_with_its_best_checkpoint(monkeypatch, toy_data, tmp_path):
    # NaN is what protocols that divide by nothing give where nothing was found.
    hmeans = iter((math.nan, 0.7, 0.7, 0.5, math.nan))

    def figures(model, processor, records, **settings):
        hmean = next(hmeans)
        return {"hmean": hmean, "precision": hmean, "recall": hmean, "num_images": len(records)}

    monkeypatch.setattr("tcm_hf.training.trainer.evaluate_records", figures)
    settings = (
        *("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL, "--per_device_train_batch_size", 2),
        *("--checkpointing_steps", 1, "--checkpoints_total_limit", 1, "--output_dir", tmp_path),
        *("--lr_scheduler_type", "constant"),
    )
    # Stopped after the first figure, which is stored as null, and again before the end, so that the best one is known
    # from a checkpoint only.
    figures_to_come, hmeans = hmeans, iter([next(hmeans)])
    with pytest.raises(StopIteration):
        run_here(monkeypatch, "train_text_detection_no_trainer.py", *settings, "--max_train_steps", 9)
    assert json.loads((tmp_path / "checkpoint-1" / "progress.json").read_text())["best"]["eval_hmean"] is None
    hmeans, resume = figures_to_come, ("--resume_from_checkpoint", "last")
    with pytest.raises(StopIteration):
        run_here(monkeypatch, "train_text_detection_no_trainer.py", *settings, *resume, "--max_train_steps", 9)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-5"}
    hmeans = iter((0.4, 0.3))
    resume = ("--max_train_steps", 6, *resume)
    run_here(monkeypatch, "train_text_detection_no_trainer.py", *settings, *resume)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
    best, last, final = (load_file(tmp_path / x / "model.safetensors") for x in ("checkpoint-3", "checkpoint-6", ""))
    assert all(torch.equal(value, best[name]) for name, value in final.items())
    assert not all(torch.equal(value, last[name]) for name, value in final.items())
    results = json.loads((tmp_path / "all_results.json").read_text(encoding="utf-8"))
    assert results["eval_hmean"] == 0.7 and "| 0.7000 |" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "script, steps",
    [("train_text_detection.py", "--max_steps"), ("train_text_detection_no_trainer.py", "--max_train_steps")],
)
def test_tensorboard_gets_the_losses_and_the_figures(monkeypatch, toy_data, tmp_path, script, steps):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_here(
        monkeypatch,
        script,
        *("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL, "--per_device_train_batch_size", 2),
        *(steps, 2, "--report_to", "tensorboard", "--output_dir", tmp_path, "--hub_token", "hf_secret"),
        *(("--checkpointing_steps", 2) if "no_trainer" in script else ("--eval_strategy", "steps", "--eval_steps", 2)),
    )
    seen = {}
    for file in tmp_path.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(file)).Reload()
        seen.update({tag.rpartition("/")[2]: events.Scalars(tag) for tag in events.Tags()["scalars"]})
    assert [event.step for event in seen["loss"]] == [1, 2]
    assert [event.value for event in seen["loss"]] == pytest.approx(logged_losses(tmp_path), rel=1e-4)
    assert "loss_probability" in seen and ("eval_hmean" in seen or "hmean" in seen)
    # What is uploaded with the model tells no token.
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"hf_secret" in file.read_bytes()]


def test_a_tracker_that_is_not_installed_is_named(monkeypatch, toy_data, tmp_path):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(SystemExit, match="--report_to tensorboard: it is not installed"):
        run_here(
            monkeypatch,
            "train_text_detection_no_trainer.py",
            *("--config_name", toy_data / "config.json", *photos(toy_data), "--use_cpu"),
            *("--report_to", "tensorboard", "--output_dir", tmp_path),
        )


def test_few_shot_curve_fills_its_grid_once(monkeypatch, toy_data, tmp_path, capsys):
    arguments = (
        *("--output_dir", tmp_path, "--fractions", 0.25, "--seeds", 3, "--"),
        *("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL, "--max_steps", 2),
        *("--per_device_train_batch_size", 2, "--save_strategy", "no", "--samples_per_epoch", 4),
    )

    def run_cell(command, **streams):
        assert command[0] == sys.executable
        with monkeypatch.context() as inner:
            run_here(inner, Path(command[1]).name, *command[2:])
        return SimpleNamespace(returncode=0)

    def main():
        with pytest.raises(SystemExit) as end:
            run_here(monkeypatch, "few_shot_curve.py", *arguments)
        return end.value.code

    monkeypatch.setattr(subprocess, "run", run_cell)
    assert main() == 0
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [(cell["side"], cell["pictures"], cell["measured_on"]) for cell in results["cells"]] == [
        ("text side", 1, 1),
        ("baseline", 1, 1),
    ]
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.splitlines()[-1].startswith("| 25 % (1) | ")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    folders = [tmp_path / f"25_percent-{side}-seed_3" for side in ("text_side", "baseline")]
    assert len({(folder / "subset.json").read_text(encoding="utf-8") for folder in folders}) == 1
    configs = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in folders]
    assert [config["text_side"] for config in configs] == [True, False]
    # Finished cells are not run again.
    monkeypatch.setattr(subprocess, "run", None)
    capsys.readouterr()
    assert main() == 0
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == results
    assert capsys.readouterr().err == ""
    # Nor with other settings, but that is said; a token is not told, and no setting.
    arguments = (*arguments[:-1], 5, "--hub_token", "hf_secret")
    assert main() == 0
    assert "measured before, with other arguments (4, 5)" in capsys.readouterr().err
    assert not [file for file in tmp_path.glob("**/*.json") if "hf_secret" in file.read_text(encoding="utf-8")]
    # Nor one that an older version noted.
    for folder in folders:
        cell = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        cell["command"] += ["--token", "hf_secret"]
        (folder / "cell.json").write_text(json.dumps(cell), encoding="utf-8")
    arguments = (*arguments[:-3], 4)
    assert main() == 0
    assert capsys.readouterr().err == ""
    assert "hf_secret" not in (tmp_path / "results.json").read_text(encoding="utf-8")


def test_few_shot_curve_compares_starts(monkeypatch, tmp_path):
    scores = {"a": 0.25, "b c": 0.5}
    commands = []

    def run_cell(command, **streams):
        """Stands in for a training: half a point for the text side, and one for each start."""
        commands.append(command)
        values = {name: command[command.index(name) + 1] for name in ("--output_dir", "--text_side", "--config_name")}
        folder = Path(values["--output_dir"])
        hmean = scores[values["--config_name"]] + (0.125 if values["--text_side"] == "true" else 0)
        metrics = {"eval_hmean": hmean, "eval_precision": 1, "eval_recall": 1, "eval_num_images": 2}
        (folder / "eval_results.json").write_text(json.dumps(metrics), encoding="utf-8")
        (folder / "subset.json").write_text('{"count": 7}', encoding="utf-8")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run_cell)
    starts = ("--start", "later", "--config_name 'b c'", "--start", "early", "--config_name a --seed_of_start 1")
    grid = ("few_shot_curve.py", "--output_dir", tmp_path, "--fractions", 0.1, "--seeds", 0, 1)
    with pytest.raises(SystemExit) as end:
        run_here(monkeypatch, *grid, *starts, "--", "--image_dir", "images")
    assert end.value.code == 0 and len(commands) == 8
    assert all(("--seed_of_start" in command) == ("a" in command) for command in commands)
    assert len(list(tmp_path.glob("later-10_percent-baseline-seed_*"))) == 2
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    names = ["early, text side", "early, baseline", "difference", "later, text side", "later, baseline", "difference"]
    assert lines[0] == f"| training images | {' | '.join(names)} |" and lines[1] == "|" + 7 * "---|"
    means = [f"{value} ± 0.000 (2 runs)" for value in ("0.375", "0.250", "0.625", "0.500")]
    assert lines[2] == f"| 10 % (7) | {' | '.join([*means[:2], '+0.125', *means[2:], '+0.125'])} |"
    summary = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["summary"]
    assert summary[0]["later, baseline"] == 0.5 and summary[0]["later, baseline runs"] == 2
    with pytest.raises(SystemExit):
        run_here(monkeypatch, *grid, "--start", "a", "--text_side true", "--", "--image_dir", "images")


@pytest.mark.parametrize("name", ["--token", "--tok", "--hub_token", "--hub-token", "--hub_tok", "--hub-t"])
def test_few_shot_results_tell_no_token(name):
    module = runpy.run_path(str(EXAMPLES / "few_shot_curve.py"))
    kept = ["train.py", "--train_fraction", "0.5", "--torch_compile", "--hub_model_id", "me/tokens"]
    assert module["published"]([*kept, name, "secret", "--seed", "1"]) == [*kept, "--seed", "1"]
    assert module["published"]([*kept, f"{name}=secret", "--seed", "1"]) == [*kept, "--seed", "1"]


def test_evaluation_prints_the_protocols_figures(monkeypatch, toy_data, trained):
    printed = run_here(
        monkeypatch,
        "evaluate_icdar2015.py",
        *("--model", trained, "--image_dir", toy_data / "images", "--gt_dir", toy_data / "gt"),
        *("--frame_size", 128, 160, "--threshold", 0.9),
    )
    figures = json.loads(printed)
    assert figures["images"] == 5 and figures["score_threshold"] == 0.9
    assert 0 <= figures["hmean"] <= 1


def test_exported_checkpoint_is_half_the_size_and_gives_the_same_maps(monkeypatch, trained, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("# A card\n", encoding="utf-8")
    # Statistics that fp16 cannot hold, as trained detectors have them.
    model = TCMForTextDetection.from_pretrained(trained)
    norm = model.detector.probability_branch[1]
    norm.running_var.copy_(torch.logspace(-2, 6, norm.running_var.numel()))
    model.save_pretrained(tmp_path / "source")
    TCMImageProcessor.from_pretrained(trained).save_pretrained(tmp_path / "source")
    target = tmp_path / "out" / "target"
    source = tmp_path / "source"
    picture = tmp_path / "card.jpg"
    picture.write_bytes(b"picture")
    options = ("--card", card, "--pictures", picture, "--threshold", 0.7)
    run_here(monkeypatch, "export_checkpoint.py", source, target, *options)
    assert {file.name for file in target.parent.iterdir()} == {"target"}
    assert {file.name for file in target.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "README.md",
        "card.jpg",
    }
    exported = TCMForTextDetection.from_pretrained(target)
    assert exported.dtype == torch.float32
    assert TCMImageProcessor.from_pretrained(target).decoding["threshold"] == 0.7
    full_size = (trained / "model.safetensors").stat().st_size
    assert (target / "model.safetensors").stat().st_size < 0.7 * full_size
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, logits = model.eval()(pixel_values).logits, exported(pixel_values).logits
    assert torch.allclose(logits, expected, atol=0.02 * expected.std().item())
    # Nor is it beyond fp16 when it computes in it.
    with torch.inference_mode():
        logits = exported.half()(pixel_values.half()).logits.float()
    assert torch.allclose(logits, expected, atol=0.05 * expected.std().item())


def test_export_replaces_only_checkpoints(monkeypatch, trained, tmp_path):
    target = tmp_path / "work"
    target.mkdir()
    (target / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(SystemExit):
        run_here(monkeypatch, "export_checkpoint.py", trained, target)
    assert (target / "thesis.txt").read_text(encoding="utf-8") == "years" and len(list(tmp_path.iterdir())) == 1
    (target / "thesis.txt").unlink()
    for _ in range(2):
        run_here(monkeypatch, "export_checkpoint.py", trained, target)
    assert (target / "model.safetensors").is_file()


def test_a_detector_without_variance_is_exported(monkeypatch, trained, tmp_path):
    model = TCMForTextDetection.from_pretrained(trained)
    for branch in (model.detector.probability_branch, model.detector.threshold_branch):
        branch[1].running_var.zero_()
    model.save_pretrained(tmp_path / "source")
    TCMImageProcessor.from_pretrained(trained).save_pretrained(tmp_path / "source")
    run_here(monkeypatch, "export_checkpoint.py", tmp_path / "source", tmp_path / "target")
    exported = load_file(tmp_path / "target" / "model.safetensors")
    name = "detector.probability_branch.0.weight"
    assert torch.equal(exported[name], model.state_dict()[name].half())


def test_export_moves_weights_halfway_to_another_checkpoint(monkeypatch, trained, tmp_path):
    model = TCMForTextDetection.from_pretrained(trained)
    name, norm = "detector.probability_branch.0.weight", model.detector.probability_branch[1]
    norm.running_var.fill_(2.0)
    start = tmp_path / "start"
    model.save_pretrained(start)
    wanted = model.state_dict()[name].clone()
    model.state_dict()[name].add_(0.5)
    norm.running_var.fill_(4.0)
    model.save_pretrained(tmp_path / "source")
    TCMImageProcessor.from_pretrained(trained).save_pretrained(tmp_path / "source")
    target = tmp_path / "target"
    run_here(monkeypatch, "export_checkpoint.py", tmp_path / "source", target, "--average", start, "--do_turn")
    exported = load_file(target / "model.safetensors")
    torch.testing.assert_close(exported[name].float(), wanted + 0.25, atol=1e-3, rtol=1e-3)
    assert (exported["detector.probability_branch.1.running_var"] == 3.0).all()
    assert TCMImageProcessor.from_pretrained(target).do_turn

    config = model.config.to_dict() | {"detector_config": {"neck_channels": 24}}
    TCMForTextDetection(type(model.config)(**config)).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="is missing in .*other, or has another size"):
        run_here(
            monkeypatch, "export_checkpoint.py", tmp_path / "source", tmp_path / "no", "--average", tmp_path / "other"
        )
    assert not (tmp_path / "no").exists()


def test_logs_of_several_runs_make_one_curve(monkeypatch, tmp_path, capsys):
    for number, steps in enumerate((4, 6)):
        history = [{"step": s, "loss": 5.0 - number - s / 8, "learning_rate": 1e-3} for s in range(2, steps + 1, 2)]
        (tmp_path / f"run{number}").mkdir()
        state = {"global_step": steps, "log_history": [*history, {"step": steps, "eval_hmean": 0.5}]}
        (tmp_path / f"run{number}" / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    runs = (tmp_path / "run0", tmp_path / "run1")
    printed = run_here(monkeypatch, "training_curve.py", "--output", tmp_path / "log", *runs)
    assert printed == "5 logged values of 10 steps\n"
    lines = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "run,step,learning_rate,loss"
    assert lines[1] == "0,2,0.001,4.75" and lines[-1] == "1,10,0.001,3.25"
    with Image.open(tmp_path / "log.png") as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20)}
    assert (20, 20, 20) in colors and (0, 120, 60) in colors
    # A training that goes on continues the committed file.
    run_here(monkeypatch, "training_curve.py", "--output", tmp_path / "first", runs[0])
    run_here(monkeypatch, "training_curve.py", "--output", tmp_path / "both", tmp_path / "first.csv", runs[1])
    for suffix in ("csv", "png"):
        assert (tmp_path / f"both.{suffix}").read_bytes() == (tmp_path / f"log.{suffix}").read_bytes()
    (tmp_path / "first.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        run_here(monkeypatch, "training_curve.py", "--output", tmp_path / "log", tmp_path / "first.csv")
    assert "is no CSV file of this script" in capsys.readouterr().err
    (tmp_path / "run0" / "trainer_state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit):
        run_here(monkeypatch, "training_curve.py", "--output", tmp_path / "log", tmp_path / "run0")
    assert "is no trainer_state.json" in capsys.readouterr().err
