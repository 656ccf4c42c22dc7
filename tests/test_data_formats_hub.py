# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The Hub form: metadata.jsonl, parquet, and data sets in memory."""

import json
import pickle

import numpy as np
import pytest
from annotation_samples import QUADS, box, save_pictures, write_sample
from PIL import Image

from tcm_hf.data.formats import (
    AnnotationError,
    DatasetImage,
    ReadOptions,
    load_image,
    read_dataset,
    records_from_dataset,
)


datasets = pytest.importorskip("datasets", reason="the Hub form needs `datasets`")


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def same(read, pictures=QUADS):
    read = list(read)
    assert len(read) == len(pictures)
    for record, picture in zip(read, pictures):
        assert record.ignore == [word.ignore for word in picture.words]
        assert record.texts == [word.text for word in picture.words]
        assert [polygon.tolist() for polygon in record.polygons] == [word.points for word in picture.words]
        assert load_image(record.image).shape == (480, 640, 3)
    return True


def row(**change):
    return {
        "file_name": "img_1.jpg",
        "polygons": [box(1, 2), box(9, 9)],
        "ignore": [False, True],
        "text": ["a", ""],
        **change,
    }


def test_a_folder_of_one_split_or_several(tmp_path):
    for split in ("train", "test"):
        write_sample("hub", tmp_path / "d" / split)
    assert same(read_dataset("hub", tmp_path / "d", split="train"))
    assert same(read_dataset("hub", tmp_path / "d" / "test"))
    assert same(read_dataset("hub", tmp_path / "d", split="test", streaming=True))
    with pytest.raises(ValueError, match="has the splits 'test', 'train': name one"):
        read_dataset("hub", tmp_path / "d")
    with pytest.raises(ValueError, match="no split 'val'; it has 'test', 'train'"):
        read_dataset("hub", tmp_path / "d", split="val")
    with pytest.raises(ValueError, match="no split 'val'"):
        read_dataset("hub", tmp_path / "d" / "test", split="val")


def test_optional_columns_and_names(tmp_path):
    save_pictures(tmp_path, ["img_1"])
    lines = [{"file_name": "img_1.jpg", "quads": [[1, 2, 9, 2, 9, 9]], "height": 960, "width": 1280}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (record,) = read_dataset("hub", tmp_path, polygons_column="quads")
    assert record.polygons[0].tolist() == [[1, 2], [9, 2], [9, 9]]
    assert record.ignore == [False] and record.texts == [None] and record.size == (960, 1280)
    lines = [{"file_name": "img_1.jpg", "polygons": [box(1, 2), box(3, 4)], "text": ["###", "a"]}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (record,) = read_dataset("hub", tmp_path)
    assert record.ignore == [True, False]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"file_name": None}, "'file_name' is missing"),
        ({"polygons": None}, "'polygons' is missing"),
        ({"polygons": [box(1, 2), [[1, 2]]]}, r"polygons\[1\]: 2 numbers are no outline"),
        ({"ignore": [True]}, "ignore: 1 entries for 2 outlines"),
        ({"ignore": [True, 2]}, r"ignore\[1\]: 2 is neither true nor false"),
        ({"text": ["a", 5]}, r"text\[1\]: expected a text"),
        ({"width": 0, "height": 5}, "no size of an image"),
    ],
)
def test_bad_lines_are_named(tmp_path, change, reason):
    save_pictures(tmp_path, ["img_1"])
    (tmp_path / "metadata.jsonl").write_text(f"{json.dumps(row())}\n{json.dumps(row(**change))}\n")
    with pytest.raises(AnnotationError, match=rf"metadata\.jsonl, line 2.*{reason}"):
        list(read_dataset("hub", tmp_path))
    errors = []
    assert len(list(read_dataset("hub", tmp_path, on_error=errors.append))) == 1 and len(errors) == 1


def test_missing_pictures(tmp_path):
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row()))
    with pytest.raises(FileNotFoundError, match="img_1.jpg"):
        list(read_dataset("hub", tmp_path))
    assert list(read_dataset("hub", tmp_path, missing="skip")) == []
    (record,) = read_dataset("hub", tmp_path, missing="keep")
    assert record.texts == ["a", None]


def test_a_source_that_is_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder or file, and no Hub id"):
        read_dataset("hub", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="neither a metadata.jsonl nor a parquet file"):
        read_dataset("hub", tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(AnnotationError, match=r"a\.parquet: no parquet file that can be read"):
        read_dataset("hub", tmp_path / "a.parquet")


# Data sets in memory


@pytest.fixture
def dataset(tmp_path):
    write_sample("hub", tmp_path / "d")
    return datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "d"), split="train")


def test_rows_of_a_dataset_stay_there_until_they_are_needed(dataset):
    records = list(records_from_dataset(dataset))
    assert all(isinstance(record.image, DatasetImage) for record in records)
    assert same(records)
    # Loader workers get records through a pipe.
    assert load_image(pickle.loads(pickle.dumps(records[1])).image).shape == (480, 640, 3)
    shuffled = dataset.select([2, 0])
    assert [len(record.polygons) for record in records_from_dataset(shuffled)] == [0, 3]


@pytest.mark.parametrize("form", ["iterable", "shards", "numpy", "generator", "parquet", "parquet-streaming"])
def test_other_forms_of_a_dataset(dataset, form, tmp_path):
    if form == "iterable":
        records = records_from_dataset(dataset.to_iterable_dataset())
    elif form == "shards":
        rows = dataset.to_iterable_dataset(num_shards=2).map(lambda row: row)
        records = records_from_dataset(rows)
    elif form == "numpy":
        records = records_from_dataset(dataset.with_format("numpy"))
    elif form == "generator":
        records = records_from_dataset(iter(dataset))
    else:
        (tmp_path / "p").mkdir()
        dataset.to_parquet(str(tmp_path / "p" / "train-00000-of-00001.parquet"))
        # The images stay where they are; the file only names them.
        records = read_dataset("hub", tmp_path / "p", streaming=form.endswith("streaming"), allow_outside=True)
    assert same(records)


def test_pictures_and_arrays_in_rows():
    rows = [
        {"image": Image.new("RGB", (8, 6)), "polygons": np.ones((1, 4, 2)), "ignore": np.array([True]), "text": [None]}
    ]
    (record,) = records_from_dataset(rows)
    assert (
        record.ignore == [True] and record.polygons[0].shape == (4, 2) and load_image(record.image).shape == (6, 8, 3)
    )


def test_wrong_columns_and_rows_are_named(dataset):
    with pytest.raises(ValueError, match="no column 'outlines', but 'image', 'polygons'"):
        records_from_dataset(dataset, polygons_column="outlines")
    with pytest.raises(ValueError, match="dict of the splits 'train': pass one"):
        records_from_dataset(datasets.DatasetDict({"train": dataset}))
    with pytest.raises(AnnotationError, match="row 0: there is no column 'picture'"):
        list(records_from_dataset([{"image": None}], image_column="picture"))
    with pytest.raises(AnnotationError, match="row 0: there is no image"):
        list(records_from_dataset([{"image": None, "polygons": []}]))
    with pytest.raises(AnnotationError, match=r"row 1.polygons\[0\]"):
        good, bad = {"image": b"", "polygons": []}, {"image": b"", "polygons": [[1, 2]]}
        list(records_from_dataset([good, bad]))


def test_records_have_the_names_of_their_pictures(dataset, tmp_path):
    assert [record.name.rsplit("/", 1)[-1] for record in records_from_dataset(dataset)] == [
        "img_1.jpg",
        "img_2.jpg",
        "img_10.jpg",
    ]
    assert [record.name for record in records_from_dataset(dataset.select([2, 0]))] == ["row 0", "row 1"]
    embedded = dataset.map(lambda row: row, features=dataset.features)
    assert [record.name.rsplit("/", 1)[-1] for record in records_from_dataset(embedded)][2] == "img_10.jpg"


# What rows name


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "private" / "secret.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 6), (1, 2, 3)).save(path)
    return path


POLYGONS = datasets.Sequence(datasets.Sequence(datasets.Sequence(datasets.Value("float32"))))


def write_parquet(path, columns, **features):
    """A file that nobody looked into; `datasets` itself would open the images, to store them."""
    from pyarrow import Table, parquet

    schema = datasets.Features({"polygons": POLYGONS, **features}).arrow_schema
    parquet.write_table(Table.from_pydict(columns, schema=schema), path)


@pytest.fixture
def no_opening(secret, monkeypatch):
    """Fails when an address, or a file called secret.png, is opened."""
    import builtins

    import fsspec

    def refuse(*arguments, **keywords):
        raise AssertionError(f"opened: {arguments}")

    really_open = builtins.open

    def watched(file, *arguments, **keywords):
        assert "secret" not in str(file), file
        return really_open(file, *arguments, **keywords)

    monkeypatch.setattr(fsspec, "open", refuse)
    monkeypatch.setattr(builtins, "open", watched)


def named_pictures(folder, secret_path):
    """Ways to name an image outside of a folder."""
    (folder / "link.png").symlink_to(secret_path)
    (folder / "up").symlink_to(folder.parent)
    return [
        str(secret_path),
        "../private/secret.png",
        "x/../../private/secret.png",
        "link.png",
        "up/private/secret.png",
        f"file://{secret_path}",
        f"simplecache::file://{secret_path}",
        "simplecache::http://127.0.0.1:9/secret.png",
        "http://127.0.0.1:9/secret.png",
        f"local://{secret_path}",
        f"zip://secret.png::{secret_path}",
        "zip://a::memory://secret.zip",
        "hf://datasets/someone/else/secret.png",
        "ftp://127.0.0.1/secret.png",
        "memory://secret.png",
    ]


@pytest.mark.parametrize("form", ["map", "streaming", "string"])
def test_parquet_names_nothing_outside(form, secret, tmp_path, no_opening):
    folder = tmp_path / "p"
    folder.mkdir()
    names = named_pictures(folder, secret)
    values = names if form == "string" else [{"path": name, "bytes": None} for name in names]
    feature = datasets.Value("string") if form == "string" else datasets.Image()
    write_parquet(folder / "a.parquet", {"image": values, "polygons": [[box(1, 1)]] * len(names)}, image=feature)
    errors = []
    with pytest.raises(AnnotationError, match="up' leads outside of the data set"):
        read_dataset("hub", folder)
    for source in (folder / "a.parquet", folder):
        if source == folder:
            (folder / "up").unlink()
        for record in read_dataset("hub", source, streaming=form == "streaming", on_error=errors.append):
            try:
                load_image(record.image)
            except AnnotationError as error:
                errors.append(error)
            except FileNotFoundError:
                assert not (folder / "up").exists()
        assert len(errors) == len(names) - (source == folder)
        assert all("leads outside of the data set" in str(error) for error in errors)
        assert all("--allow-outside" in str(error) for error in errors)
        errors.clear()
    loaded = datasets.load_dataset("parquet", data_files=str(folder / "a.parquet"), split="train")
    if form == "string":  # images would be opened, to be stored
        loaded.save_to_disk(tmp_path / "saved")
    for rows in (
        loaded,
        loaded.to_iterable_dataset(),
        datasets.concatenate_datasets([loaded, loaded]),
        datasets.load_from_disk(tmp_path / "saved") if form == "string" else loaded,
        loaded.map(lambda row: row) if form == "string" else loaded,
    ):
        errors = []
        for record in records_from_dataset(rows, on_error=errors.append):
            with pytest.raises(AnnotationError, match="leads outside of the data set.*image_root"):
                load_image(record.image)


def test_parquet_opens_what_lies_beside_it_and_what_is_allowed(secret, tmp_path):
    folder = tmp_path / "p"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "pictures" / "a.png")
    names = ["pictures/a.png", str(folder / "pictures" / "a.png"), str(secret)]
    values = [{"path": name, "bytes": None} for name in names]
    columns = {"image": values, "polygons": [[box(1, 1)]] * 3}
    write_parquet(folder / "a.parquet", columns, image=datasets.Image())
    first, second, third = read_dataset("hub", folder / "a.parquet")
    assert load_image(first.image).shape == load_image(second.image).shape == (9, 9, 3)
    with pytest.raises(AnnotationError):
        load_image(third.image)
    third = list(read_dataset("hub", folder / "a.parquet", allow_outside=True))[2]
    assert load_image(third.image).shape == (6, 8, 3)
    loaded = datasets.load_dataset("parquet", data_files=str(folder / "a.parquet"), split="train")
    third = list(records_from_dataset(loaded, image_root=[folder, secret.parent]))[2]
    assert load_image(third.image).shape == (6, 8, 3)


def test_parquet_files_by_split_among_other_files(tmp_path):
    columns = {"image": [{"bytes": b"x", "path": None}], "polygons": [[box(1, 1)]]}
    names = ("data/train-00000-of-00002", "data/train-00001-of-00002", "data/mine-00000-of-00001", "val/part")
    for name in names:
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_parquet(path, columns, image=datasets.Image())
    save_pictures(tmp_path, ["cover"])
    (tmp_path / "README.md").write_text("about")
    for split, count in (("train", 2), ("mine", 1), ("validation", 1)):
        assert len(list(read_dataset("hub", tmp_path, split=split))) == count
    with pytest.raises(ValueError, match="has the splits .*'mine'.*: name one"):
        read_dataset("hub", tmp_path)


def test_other_columns_are_not_decoded(secret, tmp_path, no_opening):
    """`datasets` opens what a column of its type Image names, whether anybody wants it or not."""
    columns = {"image": [{"bytes": b"x", "path": None}], "polygons": [[box(1, 1)]]}
    for name in ("thumbnail", "text"):
        columns_there = {**columns, name: [{"path": str(secret), "bytes": None}]}
        features = {"image": datasets.Image(), name: datasets.Image()}
        write_parquet(tmp_path / f"{name}.parquet", columns_there, **features)
    (record,) = read_dataset("hub", tmp_path / "thumbnail.parquet")
    assert record.image.load() == b"x"
    with pytest.raises(ValueError, match="column 'text' holds Image"):
        read_dataset("hub", tmp_path / "text.parquet")


def test_a_folder_of_pictures_without_links_outside(dataset, secret, tmp_path):
    (tmp_path / "d" / "img_2.jpg").unlink()
    (tmp_path / "d" / "img_2.jpg").symlink_to(secret)
    records = list(records_from_dataset(dataset))
    assert load_image(records[0].image).shape == (480, 640, 3)
    with pytest.raises(AnnotationError, match="leads outside"):
        load_image(records[1].image)
    records = list(records_from_dataset(dataset, options=ReadOptions(allow_outside=True)))
    assert load_image(records[1].image).shape == (6, 8, 3)
    made = datasets.Dataset.from_dict({"image": [str(secret)], "polygons": [[box(1, 1)]]})
    for rows in (made, made.cast_column("image", datasets.Image()), [{"image": str(secret), "polygons": [box(1, 1)]}]):
        (record,) = records_from_dataset(rows)
        assert load_image(record.image).shape == (6, 8, 3)


def test_pictures_at_other_addresses():
    import fsspec

    with fsspec.open("memory://folder/a.png", "wb") as file:
        Image.new("RGB", (8, 6), (1, 2, 3)).save(file, "PNG")
    rows = [{"image": {"bytes": None, "path": "memory://folder/a.png"}, "polygons": []}]
    with pytest.raises(AnnotationError, match="leads outside"):
        list(records_from_dataset(rows))
    (record,) = records_from_dataset(rows, options=ReadOptions(allow_outside=True))
    assert record.name == "memory://folder/a.png" and load_image(record.image)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "change, ignore, text",
    [
        ({"ignore": False}, [False, False], ["a", None]),
        ({"ignore": True}, [True, True], ["a", None]),
        ({"ignore": 1, "text": None}, [True, True], [None, None]),
        ({"ignore": None, "text": ["###", None]}, [True, False], ["###", None]),
        ({"polygons": [box(1, 2)], "ignore": False, "text": "shop"}, [False], ["shop"]),
    ],
)
def test_a_single_value_stands_for_all_outlines(tmp_path, change, ignore, text):
    save_pictures(tmp_path, ["img_1"])
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row(**change)))
    (record,) = read_dataset("hub", tmp_path)
    assert record.ignore == ignore and record.texts == text


def test_large_parquet_is_refused_before_it_is_read(tmp_path):
    """One text, stored once, in every row."""
    rows = {"image": [b""] * 3000, "polygons": [[]] * 3000, "text": [["x" * 100_000]] * 3000}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "a.parquet"), batch_size=3000)
    assert (tmp_path / "a.parquet").stat().st_size < 1e6
    with pytest.raises(AnnotationError, match=r"a\.parquet, row group 0: would take .*--memory-limit"):
        read_dataset("hub", tmp_path / "a.parquet", memory_limit=2**27)


def test_prepare_says_why_no_picture_could_be_used(secret, tmp_path, capsys):
    from tcm_hf.cli import main

    (tmp_path / "p").mkdir()
    columns = {"image": [{"path": f"file://{secret}", "bytes": None}], "polygons": [[box(1, 1)]]}
    write_parquet(tmp_path / "p" / "train.parquet", columns, image=datasets.Image())
    assert main(["prepare", "hub", str(tmp_path / "p"), str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "leads outside of the data set" in line and "--allow-outside" in line
