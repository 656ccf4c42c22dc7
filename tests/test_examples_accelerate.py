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
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import DistributedType
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from example_runs import EXAMPLES, SMALL, logged_losses, photos
from safetensors.torch import load_file
from tiny_model import tiny_detector
from toy_photos import write_toy_photos
from transformers import pipeline

from tcm_hf import TCMForTextDetection
from tcm_hf.training.distributed import prepare_for_sharding, shaped_like


FOLDER = EXAMPLES / "accelerate"
KINDS = {
    "ddp.yaml": DistributedType.MULTI_GPU,
    "fsdp2.yaml": DistributedType.FSDP,
    "deepspeed_zero2.yaml": DistributedType.DEEPSPEED,
}


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_files_are_what_accelerate_reads(name):
    config = load_config_from_file(str(FOLDER / name))
    assert config.distributed_type == KINDS[name] and config.num_processes == 2
    page = (Path(__file__).resolve().parents[1] / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert f"examples/accelerate/{name}" in page
    arguments = launch_command_parser().parse_args(["--config_file", str(FOLDER / name), "script.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    # `accelerate launch` hands every field on; a name that it does not know would be lost without a word.
    settings = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    fields = {**settings, **settings.pop("fsdp_config", {}), **settings.pop("deepspeed_config", {})}
    for field in set(fields) - {"fsdp_config", "deepspeed_config", "distributed_type", "compute_environment"}:
        given, read = fields[field], getattr(arguments, field)
        assert str(read).lower() == str(given).lower(), (field, given, read)


def test_the_layers_to_shard_are_those_of_the_models():
    names = load_config_from_file(str(FOLDER / "fsdp2.yaml")).fsdp_config["fsdp_transformer_layer_cls_to_wrap"]
    classes = {type(module).__name__ for module in tiny_detector().modules()}
    assert set(names.split(",")) <= classes


def test_parameters_are_made_such_that_they_can_be_split():
    model = tiny_detector()
    model = model.to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixels).logits
        prepare_for_sharding(model)
        torch.testing.assert_close(model(pixels).logits, expected, rtol=1e-4, atol=1e-5)
    assert all(parameter.dim() and parameter.is_contiguous() for parameter in model.parameters())
    state = shaped_like(model.state_dict(), before)
    assert {name: value.shape for name, value in state.items()} == {name: x.shape for name, x in before.items()}
    assert any(model.state_dict()[name].shape != value.shape for name, value in before.items())


# Accelerate takes FSDP on GPUs only; on CPUs it would train with DistributedDataParallel, and say nothing. From here on all is
# its own: what it does on GPUs, with gloo.
SHARDED = """
import runpy
import sys

from accelerate import DistributedType
from accelerate.state import AcceleratorState, PartialState

begin = AcceleratorState.__init__

def begin_sharded(self, *arguments, **settings):
    begin(self, *arguments, **settings)
    plugin = settings.get("fsdp_plugin")
    if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP

AcceleratorState.__init__ = begin_sharded
from tcm_hf.training import loop
prepared = loop.TrainingLoop.__init__

def prepare(self, *arguments):
    prepared(self, *arguments)
    own = sum(parameter.to_local().numel() for parameter in self.model.parameters())
    print("own share", own / sum(parameter.numel() for parameter in self.model.parameters()), flush=True)

loop.TrainingLoop.__init__ = prepare
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_two_sharded_processes_train_as_one_and_save_the_whole_model(tmp_path):
    toy = write_toy_photos(tmp_path / "toy", 5)
    config = json.loads((toy / "config.json").read_text())
    # Every process would draw another mask.
    (toy / "config.json").write_text(json.dumps({**config, "decoder_dropout": 0.0}))
    (tmp_path / "sharded.py").write_text(SHARDED)
    script = EXAMPLES / "train_text_detection_no_trainer.py"
    options = (
        *("--config_name", toy / "config.json", *photos(toy), *SMALL, "--max_train_steps", 3, "--ema_decay", 0),
        *("--samples_per_epoch", 4, "--mixed_precision", "no"),
    )
    launch = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", FOLDER / "fsdp2.yaml")
    launch = (*launch, "--mixed_precision", "no", "--main_process_port", "0", tmp_path / "sharded.py", script)

    def run(*command):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=1200)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    alone = ("--per_device_train_batch_size", 4, "--output_dir", tmp_path / "alone")
    run(sys.executable, script, *options, *alone)
    both = ("--per_device_train_batch_size", 2, "--checkpointing_steps", 2, "--output_dir", tmp_path / "sharded")
    output = run(*launch, *options, *both)
    shares = [float(share) for share in re.findall(r"own share (\S+)", output)]
    assert len(shares) == 2 and all(0.4 < share < 0.6 for share in shares)
    ours, theirs = (logged_losses(tmp_path / name) for name in ("sharded", "alone"))
    assert len(ours) == 3 and ours == pytest.approx(theirs, rel=1e-4) and theirs[2] < 0.95 * theirs[0]
    folders = ("sharded", "alone", "sharded/checkpoint-2")
    whole, expected, before = (load_file(tmp_path / name / "model.safetensors") for name in folders)
    assert {name: x.shape for name, x in whole.items()} == {name: x.shape for name, x in expected.items()}

    def differing(others):
        close = [torch.isclose(whole[name], others[name], rtol=0, atol=1e-4) for name in whole]
        return 1 - sum(int(each.sum()) for each in close) / sum(each.numel() for each in close)

    # Adam's first steps are of the rate's size whatever the gradient's, so that rounding decides where that is nearly zero.
    assert differing(expected) < 0.005 and differing(before) > 0.1
    for folder in ("sharded", "sharded/checkpoint-2"):
        model = TCMForTextDetection.from_pretrained(tmp_path / folder)
        assert type(model) is TCMForTextDetection and not model.missing_weights
    resumed = ("--output_dir", tmp_path / "resumed", "--resume_from_checkpoint", tmp_path / "sharded" / "checkpoint-2")
    run(*launch, *options, "--per_device_train_batch_size", 2, *resumed)
    assert logged_losses(tmp_path / "resumed") == pytest.approx(ours, rel=1e-5)
    again = load_file(tmp_path / "resumed" / "model.safetensors")
    assert all(torch.allclose(again[name], value, rtol=1e-4, atol=1e-6) for name, value in whole.items())
    assert isinstance(pipeline("text-detection", model=str(tmp_path / "sharded"))(str(toy / "images/img_1.jpg")), list)


def test_the_trainer_refuses_to_split_weights(monkeypatch, tmp_path):
    from tcm_hf.training import TCMTrainer, TCMTrainingArguments, trainer

    begin = trainer.Trainer.__init__

    def begin_sharded(self, *arguments, **settings):
        begin(self, *arguments, **settings)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(trainer.Trainer, "__init__", begin_sharded)
    arguments = TCMTrainingArguments(output_dir=str(tmp_path), use_cpu=True, ema_decay=0)
    with pytest.raises(ValueError, match="train_text_detection_no_trainer.py"):
        TCMTrainer(tiny_detector(), arguments)


def test_averaged_weights_are_refused(monkeypatch, tmp_path):
    from tcm_hf.training import loop
    from tcm_hf.training.options import DataArguments, LoopArguments, ModelArguments, OptionError

    monkeypatch.setattr(loop, "is_sharded", lambda accelerator: True)
    arguments = LoopArguments(output_dir=str(tmp_path / "run"), use_cpu=True)
    with pytest.raises(OptionError, match="--ema_decay 0"):
        loop.train(ModelArguments(config_name="tcm-tiny"), DataArguments(), arguments)
    assert not (tmp_path / "run").exists()
