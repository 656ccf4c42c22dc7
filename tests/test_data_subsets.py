"""Few-shot subsets: nested, seeded, published and read back."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcm_hf.data.formats import TextRecord
from tcm_hf.data.subsets import (
    filter_records,
    read_subset,
    record_ids,
    select_subset,
    subset_order,
    write_subset,
)


NAMES = [f"img_{number}.jpg" for number in range(700)]


@given(st.integers(0, 5), st.lists(st.floats(0.001, 1.0), min_size=2, max_size=2))
def test_a_smaller_subset_lies_inside_a_larger_one(seed, fractions):
    small, large = (select_subset(NAMES, fraction=fraction, seed=seed) for fraction in sorted(fractions))
    assert small == large[: len(small)]


def test_sizes_are_those_asked_for():
    sizes = [len(select_subset(NAMES, fraction=f)) for f in (0.0001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)]
    assert sizes == [1, 7, 35, 70, 175, 350, 700]
    assert len(select_subset(NAMES, shots=50)) == 50
    assert select_subset(NAMES, shots=7, seed=3) == select_subset(NAMES, fraction=0.01, seed=3)


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_files():
    shuffled = random.Random(0).sample(NAMES, len(NAMES))
    assert select_subset(NAMES, shots=50, seed=1) == select_subset(shuffled, shots=50, seed=1)
    overlap = set(select_subset(NAMES, shots=350, seed=1)) & set(select_subset(NAMES, shots=350, seed=2))
    assert 140 < len(overlap) < 210  # half of 350 by chance
    assert sorted(subset_order(NAMES, 1)) == sorted(NAMES)


def test_the_published_order_never_changes():
    """A result's subset must be found again by later versions: `printf 0:a.jpg | sha256sum` and so on, sorted."""
    assert subset_order(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], 0) == ["a.jpg", "d.jpg", "b.jpg", "c.jpg"]


def test_names_have_as_many_folders_as_they_need():
    picture = np.zeros((4, 4, 3), np.uint8)
    assert record_ids([TextRecord("x/1.jpg"), TextRecord("x/2.jpg")]) == ["1.jpg", "2.jpg"]
    assert record_ids([TextRecord("a/x/1.jpg"), TextRecord("a/y/1.jpg")]) == ["x/1.jpg", "y/1.jpg"]
    assert record_ids([TextRecord(picture), TextRecord(picture)]) == ["row-0", "row-1"]
    assert record_ids([TextRecord(picture, image_name="c.jpg")]) == ["c.jpg"]
    assert record_ids([]) == []


def test_a_written_subset_is_read_back(tmp_path):
    names = select_subset(NAMES, fraction=0.01, seed=5)
    write_subset(tmp_path / "new" / "subset.json", names, seed=5, fraction=0.01, total=700)
    content = json.loads((tmp_path / "new" / "subset.json").read_text(encoding="utf-8"))
    assert content["seed"] == 5 and content["count"] == 7 and content["total"] == 700
    assert read_subset(tmp_path / "new" / "subset.json") == names
    (tmp_path / "list.txt").write_text("\ufeff# chosen by hand\r\nb.jpg\r\n\r\na.jpg\r\n", encoding="utf-8")
    assert read_subset(tmp_path / "list.txt") == ["b.jpg", "a.jpg"]


def test_records_of_a_subset_are_found_in_another_folder_too():
    records = [TextRecord(f"here/{number}.jpg") for number in range(5)]
    assert [r.name for r in filter_records(records, ["3.jpg", "0.jpg"])] == ["here/3.jpg", "here/0.jpg"]
    assert [r.name for r in filter_records(records, ["elsewhere/3.jpg"])] == ["here/3.jpg"]
    with pytest.raises(ValueError, match=r"'7\.jpg', of which this data set of 5 images has 0"):
        filter_records(records, ["7.jpg"])
    with pytest.raises(ValueError, match="two names of the subset"):
        filter_records(records, ["a/3.jpg", "b/3.jpg"])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "names no image"),
        (b"a.jpg\na.jpg\n", "twice"),
        (b'{"images": "a.jpg"}', "must be a list"),
        (b'{"pictures": []}', "expected JSON"),
        (b"{", "expected JSON"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_bad_list_is_named(tmp_path, content, message):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_subset(tmp_path / "bad.txt")
    assert "bad.txt" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="missing.json"):
        read_subset(tmp_path / "missing.json")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "exactly one"),
        ({"fraction": 0.5, "shots": 3}, "exactly one"),
        ({"fraction": 0}, "1 % is 0.01"),
        ({"fraction": 5}, "1 % is 0.01"),
        ({"shots": 0}, "between 1 and the number"),
        ({"shots": 701}, "number of images, 700"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        select_subset(NAMES, **arguments)
    with pytest.raises(ValueError, match="name of its own"):
        subset_order(["a", "a"])
