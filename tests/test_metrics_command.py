# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import argparse
import json
import zipfile

import pytest
from PIL import Image

import tcm_hf.cli
from tcm_hf.commands import evaluate as command


WORDS = {
    "img_1": [("10,10,60,10,60,30,10,30", "one"), ("70,10,120,10,120,30,70,30", "###")],
    "img_2": [("10,10,60,10,60,30,10,30", "two"), ("10,50,60,50,60,70,10,70", "three")],
    "img_3": [],
}


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name, words in WORDS.items():
        (root / f"gt_{name}.txt").write_text("".join(f"{points},{text}\n" for points, text in words))
        Image.new("RGB", (160, 100), (90, 90, 90)).save(root / f"{name}.jpg")
    return root


@pytest.fixture
def submission(tmp_path):
    """The first word of image 1, one in the ignored region, the first word of image 2, a false one in image 3."""
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "res_img_1.txt").write_text("10,10,60,10,60,30,10,30,0.9\n72,12,110,12,110,28,72,28,0.8\n")
    (folder / "res_img_2.txt").write_text("10,10,60,10,60,30,10,30,0.6\n")
    (folder / "res_img_3.txt").write_text("0,0,60,0,60,20,0,20,0.3\n")
    return folder


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_folder_of_results(dataset, submission, tmp_path, capsys):
    report, gallery = tmp_path / "report.json", tmp_path / "gallery"
    assert run(submission, "--ground-truth", dataset, "--output", report, "--gallery", gallery, "--sweep") == 0
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads(lines[0])
    # 2 of 3 words found, 1 of 3 detections false
    assert (figures["precision"], figures["recall"], figures["images"]) == (0.666667, 0.666667, 3)
    assert any(line.startswith("score 0.35  precision 1.0000") and line.endswith("best") for line in lines)
    images = {image["image"]: image for image in json.loads(report.read_text())["images"]}
    assert (images["img_2"]["missed"], images["img_3"]["false_positives"]) == ([1], [0])
    assert len(json.loads(report.read_text())["threshold_sweep"]) == 20
    page = (gallery / "index.html").read_text()
    assert page.count("data:image/jpeg") == 2 and page.index("img_3") < page.index("img_2")


def test_other_protocols_and_thresholds(dataset, submission, capsys):
    assert run(submission, "--ground-truth", dataset, "--score-threshold", 0.5) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == 1.0
    assert run(submission, "--ground-truth", dataset, "--format", "icdar2015", "--protocol", "mmocr") == 0
    assert json.loads(capsys.readouterr().out)["score_threshold"] == 0.3
    with pytest.raises(ValueError, match="say with --format"):
        run(submission, "--ground-truth", dataset, "--protocol", "mmocr")


def test_a_zip_without_pictures_and_the_json_of_detect(dataset, submission, tmp_path, capsys):
    archive = tmp_path / "submit.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in submission.iterdir():
            file.write(path, path.name)
    (dataset / "img_2.jpg").unlink()
    assert run(archive, "--ground-truth", dataset, "--gallery", tmp_path / "gallery") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["recall"] == 0.666667
    # Detections in images of twice the annotated size.
    quad = [[20, 20], [120, 20], [120, 60], [20, 60]]
    entries = [
        {"image": f"x/{name}.jpg", "width": 320, "height": 200, "detections": [{"polygon": quad, "score": 0.5}]}
        for name in WORDS
    ]
    found = tmp_path / "found.json"
    found.write_text(json.dumps(entries))
    assert run(found, "--ground-truth", dataset, "--frame-size", 100, 160) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["precision"], figures["recall"]) == (0.666667, 0.666667)


def test_images_without_result_and_results_without_image(dataset, submission, capsys):
    (submission / "res_img_2.txt").rename(submission / "res_img_9.txt")
    assert run(submission, "--ground-truth", dataset) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["recall"] == 0.333333
    assert "1 results without an image in the ground truth, such as 'img_9'" in captured.err
    assert "1 images without a result, such as 'img_2'" in captured.err
    for path in submission.iterdir():
        path.rename(path.with_name(f"{path.stem}x.txt"))
    # Names that fit nothing are paired by their numbers, if these are unique.
    (submission / "res_img_9x.txt").rename(submission / "00002.txt")
    assert run(submission, "--ground-truth", dataset) == 0
    for path in submission.iterdir():
        path.rename(path.with_name(f"a{path.stem}{len(path.stem)}0.txt"))
    with pytest.raises(ValueError, match="no detections belong to an image"):
        run(submission, "--ground-truth", dataset)


def test_numbers_of_ctw1500_and_art():
    assert command._pair_names(["1001", "1002"], ["0001001", "0001002"]) == {"1001": "0001001", "1002": "0001002"}
    assert command._pair_names(["gt_3".removeprefix("gt_"), "12"], ["3"]) == {"3": "3"}
    assert command._pair_names(["tr_img_00001"], ["img_00001"]) == {"tr_img_00001": "img_00001"}
    # Two candidates of one number are none.
    assert command._pair_names(["a_1", "b_1"], ["x_1"]) == {}


def test_rotated_boxes_of_td500_are_taken_as_published(tmp_path, capsys):
    # A line that is higher than wide, and a detection beside it: turned upright they share a third.
    truth, found = tmp_path / "truth", tmp_path / "found"
    truth.mkdir()
    found.mkdir()
    (truth / "IMG_0001.gt").write_text("0 0 100 100 30 200 0.1\n1 0 300 100 200 30 -0.3\n2 1 10 10 80 20 0\n")
    for shift, hits in ((5, 2), (15, 1)):
        lines = f"{100 + shift},100,{130 + shift},300,0.1\n300,100,500,130,-0.3\n"
        (found / "IMG_0001.txt").write_text(lines)
        assert run(found, "--ground-truth", truth, "--protocol", "td500") == 0
        assert json.loads(capsys.readouterr().out)["recall"] == hits / 2


class FakePipeline:
    """Finds a right word and, with a low threshold, a wrong one that is joined with the right one of the first image."""

    def __init__(self, threshold):
        self.threshold, self.sizes = 0.5 if threshold is None else threshold, []

    def __call__(self, pictures, batch_size, **settings):
        for picture in pictures:
            self.sizes.append(picture.size)
            yield self.postprocess(len(self.sizes), **settings)

    def postprocess(self, number, threshold=None):
        right, wrong = [[10, 10], [60, 10], [60, 30], [10, 30]], [[0, 80], [60, 80], [60, 99], [0, 99]]
        texts = [{"polygon": right, "score": 0.7}, {"polygon": wrong, "score": 0.3}]
        limit = self.threshold if threshold is None else threshold
        if number == 1 and limit <= 0.3:
            texts[0] = {"polygon": [[0, 0], [150, 0], [150, 99], [0, 99]], "score": 0.5}
        return [text for text in texts if text["score"] >= limit]


@pytest.fixture
def fake_pipeline(monkeypatch):
    made = []

    def load(arguments):
        made.append((FakePipeline(arguments.threshold), arguments))
        return made[-1][0]

    monkeypatch.setattr(command, "load_pipeline", load)
    return made


@pytest.mark.parametrize("protocol", ["icdar2015", "mmocr", "tt_pascal", "db_iou"])
@pytest.mark.parametrize("options", [(), ("--threshold", 0.65), ("--score-threshold", 0.6), ("--batch-size", 2)])
@pytest.mark.parametrize("source", ["model", "files"])
def test_a_sweep_only_adds_its_table(dataset, submission, tmp_path, fake_pipeline, capsys, protocol, options, source):
    if source == "files" and options and options[0] != "--score-threshold":
        pytest.skip("an option of the model")
    place = ("--model", "some/model") if source == "model" else (submission,)
    results = []
    for name, sweep in (("plain", ()), ("swept", ("--sweep",))):
        where = tmp_path / name
        written = ("--output", where / "report.json", "--gallery", where / "gallery")
        run(
            *place,
            "--ground-truth",
            dataset,
            "--format",
            "icdar2015",
            "--protocol",
            protocol,
            *options,
            *written,
            *sweep,
        )
        report = json.loads((where / "report.json").read_text())
        table = report.pop("threshold_sweep", None)
        headline = json.loads(capsys.readouterr().out.splitlines()[0])
        results.append((headline, report, (where / "gallery" / "index.html").read_bytes()))
    assert results[0] == results[1]
    assert [row["score_threshold"] for row in table] == [step / 20 for step in range(20)]
    if source == "model" and protocol == "icdar2015":
        # Also the scores below the model's threshold.
        assert table[1]["num_detections"] == 6 and table[13]["num_detections"] == 2


def test_a_prepared_dataset_with_a_model(dataset, tmp_path, fake_pipeline, capsys):
    from tcm_hf.commands import prepare

    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    prepared = tmp_path / "prepared"
    assert prepare.run(parser.parse_args(["icdar2015", str(dataset), str(prepared)])) == 0
    capsys.readouterr()
    assert run("--model", "some/model", "--ground-truth", prepared, "--shape", "quad") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["images"], figures["precision"], figures["recall"]) == (3, 0.666667, 0.666667)
    pipe, arguments = fake_pipeline[0]
    assert pipe.sizes == [(160, 100)] * 3 and arguments.shape == "quad" and arguments.reading_order is False
    # An image that is damaged is left out, and said.
    broken = next(prepared.rglob("img_2*.jpg"))
    broken.unlink()
    broken.write_bytes(b"no image")
    assert run("--model", "some/model", "--ground-truth", prepared) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["images"] == 2 and "img_2: left out" in captured.err


def test_pictures_of_one_name_in_several_folders_have_no_results_of_their_own(tmp_path):
    for folder in "ab":
        (tmp_path / "data" / folder).mkdir(parents=True)
        Image.new("RGB", (160, 100)).save(tmp_path / "data" / folder / "1.png")
    row = {"polygons": [[[10, 10], [60, 10], [60, 30], [10, 30]]], "ignore": [False], "text": ["a"]}
    lines = [json.dumps({"file_name": f"{folder}/1.png", **row}) for folder in "ab"]
    (tmp_path / "data" / "metadata.jsonl").write_text("\n".join(lines))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "res_1.txt").write_text("10,10,60,10,60,30,10,30,0.9\n")
    with pytest.raises(ValueError, match="2 images of the ground truth are called '1'"):
        run(tmp_path / "results", "--ground-truth", tmp_path / "data")


def test_wrong_command_lines(dataset, submission, tmp_path):
    with pytest.raises(ValueError, match="either DETECTIONS"):
        run("--ground-truth", dataset)
    with pytest.raises(ValueError, match="either DETECTIONS"):
        run(submission, "--model", "m", "--ground-truth", dataset)
    with pytest.raises(ValueError, match="unknown protocol 'x'"):
        run(submission, "--ground-truth", dataset, "--protocol", "x")
    with pytest.raises(SystemExit):
        run(submission, "--ground-truth", dataset, "--worst", 0)
    with pytest.raises(OSError, match="nothing"):
        run(submission, "--ground-truth", tmp_path / "nothing")


def test_output_places_are_checked_before_anything_is_read(submission, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_read_ground_truth", lambda arguments: pytest.fail("the ground truth was read"))
    file = submission / "res_img_1.txt"
    for option, place, message in (
        ("--output", tmp_path, "it is a directory; name a file"),
        ("--output", file / "report.json", "cannot write to"),
        ("--gallery", file, "it is a file; name a folder"),
        ("--gallery", file / "gallery", "cannot write to"),
    ):
        with pytest.raises(OSError, match=message):
            run(submission, "--ground-truth", tmp_path, option, place)
    (tmp_path / "index.html").write_text("a table of detections")
    for option, place in (("--output", tmp_path / "index.html"), ("--gallery", tmp_path)):
        with pytest.raises(ValueError, match=f"{option} .*index.html' is one of the inputs; name another file"):
            run(tmp_path / "index.html", "--ground-truth", tmp_path, option, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "submission"]


def test_through_the_command_line(dataset, submission, capsys):
    assert tcm_hf.cli.main(["evaluate", str(submission), "--ground-truth", str(dataset)]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "rrc_iou"
    assert tcm_hf.cli.main(["evaluate", str(submission), "--ground-truth", str(dataset), "--protocol", "x"]) == 1
    assert "tcm-hf evaluate: error: unknown protocol" in capsys.readouterr().err
