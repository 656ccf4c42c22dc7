# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`import tcm_hf`: names that are loaded when they are used, and transformers that knows TCM in whatever order both come."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tcm_hf


def run_python(code: str, *options: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, *options, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(tcm_hf.__file__).parents[1])
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "transformers", "numpy", "cv2", "PIL", "huggingface_hub")
    code = f"import tcm_hf, sys; tcm_hf.DEFAULT_CHECKPOINT; print(*(name for name in {heavy} if name in sys.modules))"
    assert run_python(code, "-W", "error").split() == []


def test_every_public_name_is_there():
    names: dict = {}
    exec("from tcm_hf import *", names)
    assert set(tcm_hf.__all__) <= set(names)
    assert set(tcm_hf.__all__) <= set(dir(tcm_hf))
    with pytest.raises(AttributeError, match="module 'tcm_hf' has no attribute 'TCMNothing'"):
        tcm_hf.TCMNothing  # noqa: B018


def test_type_checkers_are_told_of_the_same_names():
    tree = ast.parse(Path(tcm_hf.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == tcm_hf._MODULES


# TCM is known after any of them.
ORDERS = (
    "import tcm_hf; from transformers import pipeline",
    "from transformers import pipeline; import tcm_hf",
    "import transformers; import tcm_hf",
    "from transformers import AutoConfig; import tcm_hf",
    "import transformers.models.auto.modeling_auto, tcm_hf",
    "import tcm_hf; from transformers import AutoModelForObjectDetection",
    "import tcm_hf, transformers.trainer",
    "from tcm_hf import TextDetectionPipeline",
    "import tcm_hf.model.image_processing_tcm",
)
KNOWN = """
from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModel, AutoModelForObjectDetection
assert type(AutoConfig.for_model("tcm")).__module__ == "tcm_hf.model.configuration_tcm"
assert type(AutoImageProcessor.from_pretrained({checkpoint!r})).__name__ == "TCMImageProcessor"
from transformers.pipelines import PIPELINE_REGISTRY
targets = PIPELINE_REGISTRY.check_task("text-detection")[1]
assert targets["impl"].__name__ == "TextDetectionPipeline" and targets["pt"] == (AutoModelForObjectDetection,)
import tcm_hf
assert AutoModel._model_mapping[tcm_hf.TCMConfig] is tcm_hf.TCMModel
assert AutoModelForObjectDetection._model_mapping[tcm_hf.TCMConfig] is tcm_hf.TCMForTextDetection
tower = tcm_hf.CLIPResNetConfig
assert AutoModel._model_mapping[tower] is tcm_hf.CLIPResNetModel
assert AutoBackbone._model_mapping[tower] is tcm_hf.CLIPResNetBackbone
names = [getattr(tcm_hf, name)._auto_class for name in ("TCMConfig", "TCMModel", "TCMForTextDetection", "TCMImageProcessor")]
assert names == ["AutoConfig", "AutoModel", "AutoModelForObjectDetection", "AutoImageProcessor"]
"""


@pytest.mark.parametrize("order", ORDERS)
def test_transformers_knows_tcm_in_any_order(order):
    code = f"{order}\n{KNOWN.format(checkpoint=tcm_hf.DEFAULT_CHECKPOINT)}"
    run_python(code)


def test_the_first_use_may_be_an_auto_class_or_a_pipeline():
    run_python(
        f"""
import tcm_hf
from transformers import AutoConfig
assert AutoConfig.from_pretrained({tcm_hf.DEFAULT_CHECKPOINT!r}).model_type == "tcm"
import sys
assert "transformers.pipelines" not in sys.modules
from transformers import pipeline
assert type(pipeline("text-detection")) is tcm_hf.TextDetectionPipeline
"""
    )


def test_threads_that_import_at_once():
    run_python(
        f"""
import threading
import tcm_hf

errors = []
start = threading.Barrier(4)

def use(first):
    try:
        start.wait()
        if first:
            tcm_hf.TextDetectionPipeline
        from transformers.pipelines import PIPELINE_REGISTRY
        PIPELINE_REGISTRY.check_task("text-detection")
        from transformers import AutoConfig
        AutoConfig.from_pretrained({tcm_hf.DEFAULT_CHECKPOINT!r})
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=use, args=(number == 0,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not errors, errors
"""
    )


def test_objects_travel_to_fresh_processes():
    run_python(
        """
import multiprocessing
import pickle
import tcm_hf

def known(config):
    return type(config).__name__

if __name__ == "__main__":
    config = tcm_hf.TCMConfig(num_context_vectors=2)
    assert pickle.loads(pickle.dumps(config)).num_context_vectors == 2
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(repr, (config,)).startswith("TCMConfig")
"""
    )


def test_reloading_registers_again_and_quietly():
    output = run_python(
        """
import importlib, sys
import tcm_hf
from transformers import AutoModel, pipeline
before = tcm_hf.TCMModel
module = importlib.reload(sys.modules["tcm_hf.model.modeling_tcm"])
assert importlib.reload(tcm_hf).TCMModel is module.TCMModel is not before
assert AutoModel._model_mapping[tcm_hf.TCMConfig] is module.TCMModel
# Everything anew, as test runners do.
for name in [name for name in sys.modules if name.split(".")[0] == "tcm_hf"]:
    del sys.modules[name]
import tcm_hf as again
assert again is not tcm_hf and AutoModel._model_mapping[again.TCMConfig] is again.TCMModel
"""
    )
    assert output == ""


def test_without_transformers_the_names_say_so():
    run_python(
        """
import sys
sys.modules["transformers"] = None
import tcm_hf
print(tcm_hf.__version__, tcm_hf.checkpoint_names())
try:
    tcm_hf.TCMConfig
except ImportError as error:
    assert "transformers" in str(error)
else:
    raise AssertionError
"""
    )
    # What transformers cannot load for a reason of its own comes through, and is no unknown name of this package.
    run_python(
        """
import sys
sys.modules["shapely"] = None
import tcm_hf
try:
    from transformers import pipeline
except ImportError as error:
    while error.__cause__ is not None:
        error = error.__cause__
    assert "shapely" in str(error), error
else:
    raise AssertionError
"""
    )


def test_modules_keep_their_loaders():
    run_python(
        """
import importlib.util, inspect, tcm_hf
import transformers.models.auto.configuration_auto as module
assert type(module.__loader__) is type(module.__spec__.loader) is type(tcm_hf.__loader__)
assert "class AutoConfig" in inspect.getsource(module)
assert "class" in importlib.util.find_spec("tcm_hf.model.modeling_tcm").loader.get_source("tcm_hf.model.modeling_tcm")
"""
    )
