# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`examples/bulk_detect_ray.py`: in one process, and on a Ray cluster of this machine that is killed meanwhile."""

import contextlib
import json
import os
import runpy
import subprocess
import sys
import time

import numpy as np
import pytest
from example_runs import EXAMPLES
from PIL import Image
from tiny_model import tiny_pipeline

from tcm_hf.model.image_loading import load_rgb_image


pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
SCRIPT = runpy.run_path(str(EXAMPLES / "bulk_detect_ray.py"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven images in two folders, of which one is damaged, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    for number in range(11):
        pixels = rng.integers(0, 256, (40 + 8 * number, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("sub" if number % 2 else "") / f"{number}.png")
    (folder / "3.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("text")
    return folder


def detect(*words):
    return SCRIPT["main"]([str(word) for word in words])


def read_rows(folder):
    files = sorted(folder.glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def expected_rows(model, names, images, **arguments):
    """What the pipeline gives for each image alone."""
    from transformers import pipeline

    detector = pipeline("text-detection", model=str(model), device="cpu")
    for name, image in zip(names, images):
        try:
            image = load_rgb_image(image)
        except (OSError, ValueError):
            yield name, None, None
        else:
            yield name, (image.width, image.height), detector(image, **arguments)


def check(rows, expected):
    assert len(rows) == len(expected)
    for row, (name, size, found) in zip(rows, expected):
        assert row["image"] == name
        if size is None:
            assert row["error"] and row["detections"] is None and row["width"] is None
        else:
            assert row["error"] is None and (row["width"], row["height"]) == size
            assert len(row["detections"]) == len(found)
            for ours, theirs in zip(row["detections"], found):
                assert ours["box"] == theirs["box"] and ours["label"] == theirs["label"]
                assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)
                np.testing.assert_allclose(ours["polygon"], theirs["polygon"], atol=1e-3)


def test_images_of_a_folder(model, photos, tmp_path, capsys):
    words = (photos, tmp_path, "--model", model, "--num_workers", 0, "--shard_size", 5, "--batch_size", 2)
    words += ("--threshold", 0.2, "--shape", "box")
    assert detect(*words) == 1
    files = sorted(file.relative_to(photos).as_posix() for file in photos.rglob("*.png"))
    assert len(files) == 12 and [len(pq.read_table(file)) for file in sorted(tmp_path.glob("*.parquet"))] == [5, 5, 2]
    rows = read_rows(tmp_path)
    expected = list(expected_rows(model, files, [photos / file for file in files], threshold=0.2, shape="box"))
    check(rows, expected)
    assert sum(len(found or ()) for _, _, found in expected) > 0
    assert [row["error"] for row in rows if row["error"]] != []
    assert "12 images, 1 of them not readable; 0 shards failed" in capsys.readouterr().out
    # It goes on where it was: one shard is missing, and half a file lies there.
    before = (tmp_path / "000001.parquet").read_bytes()
    (tmp_path / "000001.parquet").unlink()
    (tmp_path / "000001.parquet.abc.tmp").write_bytes(before[:100])
    times = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.parquet")}
    detect(*words)
    assert "3 shards, 2 of them done before" in capsys.readouterr().out
    assert pq.read_table(tmp_path / "000001.parquet").to_pylist() == rows[5:10]
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in times} == times
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json"] + [".parquet"] * 3
    assert detect(*words) == 0  # nothing is left to do
    for changed, what in ((("--threshold", 0.3), "settings"), (("--shard_size", 4), "images")):
        with pytest.raises(SystemExit, match=f"other {what}"):
            detect(*words, *changed)


def test_parquet_files(model, photos, tmp_path, capsys):
    shards, output = tmp_path / "shards", tmp_path / "out"
    (shards / "more").mkdir(parents=True)
    contents = [(photos / name).read_bytes() for name in ("0.png", "2.png", "3.png", "4.png")]
    named = [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(contents)]
    pq.write_table(pa.table({"image": named, "label": [1, 2, 3, 4]}), shards / "a.parquet")
    # The same name in a subfolder, bytes without names, and a row without an image.
    pq.write_table(pa.table({"image": [contents[0], None]}), shards / "more" / "a.parquet")
    (shards / "broken.parquet").write_bytes(b"PAR1 nothing")
    pq.write_table(pa.table({"picture": contents[:1]}), shards / "other.parquet")
    assert detect(shards, output, "--model", model, "--num_workers", 0) == 1
    captured = capsys.readouterr()
    assert "no column 'image'; it has picture" in captured.err and "broken.parquet" in captured.err
    assert "2 shards failed" in captured.out
    rows = read_rows(output)
    names = ["0.png", "1.png", "2.png", "3.png", "a.parquet#0", "a.parquet#1"]
    check(rows, list(expected_rows(model, names, [*contents, contents[0], b""])))
    assert [row["row"] for row in rows] == [0, 1, 2, 3, 0, 1]
    # Shards that failed are tried again.
    (shards / "broken.parquet").write_bytes((shards / "a.parquet").read_bytes())
    assert detect(shards, output, "--model", model, "--num_workers", 0) == 1
    assert "4 shards, 2 of them done before" in capsys.readouterr().out and len(read_rows(output)) == 10


def test_wrong_inputs(tmp_path):
    with pytest.raises(SystemExit, match="no such file or folder"):
        detect(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(SystemExit, match="neither parquet files nor images"):
        detect(tmp_path / "in", tmp_path / "out")


def test_one_failing_image_costs_no_other(model, photos, tmp_path, monkeypatch):
    arguments = SCRIPT["parse_arguments"]([str(photos), str(tmp_path), "--model", str(model), "--batch_size", "4"])
    detector = SCRIPT["ShardDetector"]({"parquet": False, "root": str(photos)}, arguments)
    whole = detector.pipeline

    def failing(images, batch_size):
        if any(image.height == 56 for image in images):
            raise RuntimeError("no memory")
        return whole(images, batch_size=batch_size)

    detector.pipeline = failing
    failing.image_processor = whole.image_processor
    files = [str(photos / name) for name in ("0.png", "2.png", "3.png", "4.png")]
    [rows] = detector.detect(detector.sources({"name": "x", "files": files}))
    assert [row["error"] is None for row in rows] == [True, False, False, True]
    assert rows[1]["error"] == "no memory" and isinstance(rows[3]["detections"], list)


# Seconds after which a run hangs. On a machine that is busy with other things each step may take minutes.
PATIENCE = 1200
# Ray's own limits are for machines that do nothing else: a worker that takes a minute to import its modules is given up.
RAY_PATIENCE = {
    "RAY_raylet_start_wait_time_s": str(PATIENCE),
    "RAY_gcs_server_port_wait_time_s": str(PATIENCE),
    "RAY_gcs_server_request_timeout_seconds": str(PATIENCE),
    "RAY_worker_register_timeout_seconds": str(PATIENCE),
    "RAY_agent_register_timeout_ms": str(1000 * PATIENCE),
    "RAY_health_check_timeout_ms": str(1000 * PATIENCE),
}
# The one that no variable changes: of the start of the node, 30 seconds.
NOT_STARTED = "The current node timed out during startup"


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.05)


def processes_of(run):
    """The processes that a run has started, by a variable of their environment."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("TCM_HF_TEST_RUN") == run:
                found.append(process)
    return found


@contextlib.contextmanager
def start_on_ray(command, environment, log):
    """A run on Ray, once its node has started; whatever is left of it in the end is killed."""
    for _ in range(20):
        with open(log, "w") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        wait_until(lambda: process.poll() is not None or "Started a local Ray instance" in log.read_text())  # noqa: B023
        if process.poll() is None or NOT_STARTED not in log.read_text():
            break
    else:
        pytest.fail("Ray's node does not start within 30 seconds")
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_killed_and_resumed_on_ray(model, photos, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'ray[data]'")
    one, many = tmp_path / "one", tmp_path / "many"
    words = ["--model", str(model), "--shard_size", "1"]
    assert detect(photos, one, *words, "--num_workers", 0) == 1
    command = [
        sys.executable,
        str(EXAMPLES / "bulk_detect_ray.py"),
        str(photos),
        str(many),
        *words,
        "--num_workers",
        "2",
    ]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), **RAY_PATIENCE, "TCM_HF_TEST_RUN": str(tmp_path)}
    with start_on_ray(command, environment, tmp_path / "first.log") as process:
        wait_until(lambda: list(many.glob("*.parquet")) or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "first.log").read_text()[-2000:]
        process.kill()
    # Ray's own processes follow the one that started them, and until then may write another shard.
    wait_until(lambda: not processes_of(str(tmp_path)))
    first = sorted(many.glob("*.parquet"))
    assert 1 <= len(first) < 12
    with start_on_ray(command, environment, tmp_path / "second.log") as process:
        code = process.wait(PATIENCE)
    log = (tmp_path / "second.log").read_text()
    assert code == 1, log[-2000:]  # one image is damaged
    assert f"12 shards, {len(first)} of them done before" in log
    assert read_rows(many) == read_rows(one)
    names = [row["image"] for row in read_rows(many)]
    assert sorted(names) == sorted(set(names)) and len(names) == 12
    assert json.loads((many / "plan.json").read_text())["settings"]["model"] == str(model)
    assert not list(many.glob("*.tmp"))
