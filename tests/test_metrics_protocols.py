# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Every protocol against the figures of its official script, and against small cases worked out by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import SHARED, shared_path

from tcm_hf.metrics import ALIASES, PROTOCOLS, TextDetectionEvaluator, evaluate_detections, get_protocol, protocols
from tcm_hf.metrics.matching import maximum_pairs


FOLDER = "eval_golden/public"
CASES = sorted(path.stem for path in (SHARED / FOLDER).glob("*.json") if not path.stem.startswith("perf_"))
KINDS = {"OO": "one-to-one", "OM": "one-to-many", "MO": "many-to-one"}
# Official totals and per-image figures under our names.
NAMES = {
    "precision": "precision",
    "recall": "recall",
    "hmean": "hmean",
    "p": "precision",
    "r": "recall",
    "h": "hmean",
    "n_gt": "num_ground_truth",
    "n_det": "num_detections",
    "recall_sum": "recall_sum",
    "precision_sum": "precision_sum",
    "AP": "average_precision",
    "ap": "average_precision",
    "best_threshold": "best_threshold",
    "num_char_gt": "num_ground_truth",
    "num_char_det": "num_detections",
    "num_char_fp": "false_characters",
    "num_char_tp_recall": "correct_characters",
    "gran_score_recall": "split_penalty",
    "gran_score_precision": "merge_penalty",
}


def load(name):
    case = json.loads(shared_path(f"{FOLDER}/{name}.json").read_text())
    detections, truths = [], []
    for image in case["images"]:
        regions, found = image["gts"], image["preds"]
        truth = {
            key: [region[field] for region in regions]
            for key, field in (("polygons", "points"), ("ignore", "ignore"), ("texts", "text"))
        }
        result = {"polygons": [d["points"] for d in found], "scores": [d["score"] for d in found]}
        if case["geometry"] == "rbox":
            truth["rotated_boxes"] = [region["rbox"] for region in regions]
            result["rotated_boxes"] = [d["rbox"] for d in found]
        if case["family"] == "quad_mlt":
            truth["languages"] = [region["script"] for region in regions]
        truths.append(truth)
        detections.append(result)
    return case, detections, truths, [str(image["id"]) for image in case["images"]]


def is_official(case, protocol):
    """Whether the figures are to be met: not where they hang on the geometry library or a broken script was mended."""
    expected = case["expected"][protocol]
    if case["advisory"] or protocol in case["advisory_protocols"]:
        return False
    return protocol != "cleval" or expected["box_type"] == "QUAD"


def check(ours, expected, where):
    for name, value in expected.items():
        if name not in NAMES or (name == "best_threshold" and "best_threshold" not in ours):
            continue
        mine = ours[NAMES[name]]
        if value is None:
            # The script divides by zero, or prints "not a number".
            assert math.isnan(mine) and "error" in ours, (*where, name)
        else:
            assert mine == pytest.approx(value, abs=1e-9), (*where, name)


@pytest.mark.parametrize("name", CASES or ["quad_basic_s1"])
def test_figures_of_the_official_scripts(name):
    case, detections, truths, ids = load(name)
    checked = 0
    for protocol, expected in case["expected"].items():
        if not is_official(case, protocol):
            continue
        evaluator = TextDetectionEvaluator(protocol)
        for found, truth, image_id in zip(detections, truths, ids):
            evaluator.add(found, truth, image_id=image_id)
        result = evaluator.compute()
        check(result, expected, (name, protocol))
        sweeps = [(result, expected)]
        if "numpy2" in expected:
            sweeps.append((evaluate_detections(detections, truths, f"{protocol}_numpy2"), expected["numpy2"]))
        for ours, official in sweeps:
            assert len(ours.get("sweep", [])) == len(official.get("sweep", []))
            for mine, row in zip(ours.get("sweep", []), official.get("sweep", [])):
                assert mine["score_threshold"] == row["threshold"]
                check(mine, row, (name, protocol, row["threshold"]))
        plain = result.get("no_score_filter", result)
        if "no_score_filter" in expected:
            check(plain, expected["no_score_filter"], (name, protocol, "no filter"))
        for image_id, official in expected.get("per_image", {}).items():
            mine = plain["per_image"][image_id]
            where = (name, protocol, image_id)
            if "error" in official:
                assert math.isnan(mine["hmean"]), where
                continue
            check(mine, {k: v for k, v in official.items() if k != "AP"}, where)
            if "pairs" in official:
                assert sorted(mine["pairs"]) == sorted(map(as_match, official["pairs"])), where
                assert mine["ignored_detections"] == official.get("det_ignored", []), where
                assert mine["left_out"]["detections"] == official.get("det_dropped", []), where
        checked += 1
    # Nothing that is stored goes unread.
    assert checked == sum(is_official(case, protocol) for protocol in case["expected"])
    assert set(case["expected"]) <= set(PROTOCOLS)


def as_match(pair):
    kind, rows, columns = ("OO", *pair) if len(pair) == 2 else pair
    rows, columns = (tuple(side) if isinstance(side, list) else (side,) for side in (rows, columns))
    # One region merged with nothing is a one-to-one match, whichever step finds it.
    kind = "OO" if kind == "MO" and len(rows) == len(columns) == 1 else kind
    return KINDS[kind], rows, columns


@pytest.mark.parametrize(
    "protocol",
    [
        "rrc_iou",
        "db_iou",
        "db_deteval_poly",
        "tt_pascal",
        "mmocr0_hmean_iou",
        "mmocr0.3_hmean_iou",
        "mmocr1_hmean_iou",
        "mmocr0_hmean_ic13",
        "tedeval",
        "cleval",
    ],
)
def test_degenerate_polygons_as_in_the_official_scripts(protocol):
    # These depend on the geometry library and are no official figures, but ours follow the same rules.
    case, detections, truths, _ = load("quad_degenerate_s1")
    check(evaluate_detections(detections, truths, protocol), case["expected"][protocol], (protocol,))


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def score(protocol, truth, found, ignore=None, scores=None, **truth_fields):
    truth = {"polygons": truth, "ignore": ignore, **truth_fields}
    found = {"polygons": found, "scores": scores or [0.9] * len(found)}
    return evaluate_detections([found], [truth], protocol)


def figures(result):
    return result["precision"], result["recall"]


def test_a_line_found_in_two_pieces():
    line, pieces = box(0, 0, 100, 20), [box(0, 0, 50, 20), box(50, 0, 100, 20)]
    assert figures(score("rrc_iou", [line], pieces)) == (0.0, 0.0)
    for protocol in ("db_deteval_poly", "tt_deteval_0.7_0.6", "tt_deteval_0.8_0.4"):
        assert figures(score(protocol, [line], pieces)) == pytest.approx((0.8, 0.8))
    # Pieces cost k / (1 + ln k) on the side of precision only.
    fragmentation = 2 / (1 + math.log(2))
    assert figures(score("db_mtwi2018", [line], pieces)) == pytest.approx((fragmentation / 2, 1.0))


def test_two_words_found_as_one_line():
    line, words = box(0, 0, 100, 20), [box(0, 0, 50, 20), box(50, 0, 100, 20)]
    assert figures(score("db_deteval_poly", words, [line])) == (1.0, 1.0)  # not punished here
    assert figures(score("tt_deteval_0.7_0.6", words, [line])) == pytest.approx((0.8, 0.8))
    assert figures(score("psenet_ctw", words, [line])) == (1.0, 0.5)  # one true positive for two regions


def test_one_piece_of_a_line_beside_a_scrap():
    # The larger piece covers 85 %, the scrap touches the line: two overlaps, one good piece.
    line, found = box(0, 0, 100, 20), [box(0, 0, 85, 20), box(95, -100, 105, 5)]
    assert figures(score("db_deteval_poly", [line], found)) == (0.5, 1.0)
    assert figures(score("ic13_deteval", [line], found)) == (0.5, 1.0)
    # Without the count of overlaps the pair is one-to-one at once.
    assert figures(score("ic13_icdar2013", [line], found)) == (0.5, 1.0)
    # Two regions share a detection that covers the first of them: one-to-one is refused, and the single piece costs.
    shared = [box(0, 0, 100, 20), box(0, 0, 100, 18)]
    assert score("ic13_icdar2013", shared, [box(0, 0, 100, 20)])["recall_sum"] == pytest.approx(0.8)
    assert score("ic13_icdar2013_db", shared, [box(0, 0, 100, 20)])["recall_sum"] == 1.0


def test_first_best_and_most_matches_differ():
    # The first detection fits both regions, the second only the first one.
    truth = [box(0, 0, 100, 20), box(20, 0, 120, 20)]
    found = [box(8, 0, 108, 20), box(-25, 0, 75, 20)]
    assert score("rrc_iou", truth, found)["recall_sum"] == 1
    assert score("mmocr1_hmean_iou", truth, found)["recall_sum"] == 1
    assert score("mmocr1_hmean_iou_max", truth, found)["recall_sum"] == 2
    # By score, the second one is asked first.
    assert score("rrc_iou_conf", truth, found, scores=[0.5, 0.6])["recall_sum"] == 2


def test_maximum_matching_is_as_large_as_brute_force():
    rng = np.random.default_rng(3)

    def largest(choices, used=frozenset()):
        if not choices:
            return 0
        rest = largest(choices[1:], used)
        return max([rest, *(1 + largest(choices[1:], used | {c}) for c in choices[0] if c not in used)])

    for _ in range(60):
        hits = rng.random((5, 5)) < 0.35
        pairs = maximum_pairs(*np.nonzero(hits))
        assert len(pairs) == largest([np.nonzero(row)[0].tolist() for row in hits])
        assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
        assert all(hits[pair] for pair in pairs)


def test_duplicates():
    region = box(0, 0, 100, 20)
    assert figures(score("tt_pascal", [region], [region, region])) == (0.5, 1.0)
    # The duplicate is a false positive twice.
    assert figures(score("tt_pascal_old_art", [region], [region, region])) == (1 / 3, 1.0)
    assert figures(score("ctw1500_official", [region], [region, region])) == (0.5, 1.0)


def test_thresholds_of_total_text_and_ctw():
    half = box(0, 0, 100, 10)  # IoU exactly 1/2
    assert figures(score("ctw1500_official", [box(0, 0, 100, 20)], [half])) == (0.0, 0.0)
    assert figures(score("psenet_ctw", [box(0, 0, 100, 20)], [half])) == (1.0, 1.0)
    # One square pixel more in the union.
    assert math.isnan(score("tt_pascal", [box(0, 0, 100, 20)], [half])["hmean"])
    # Shares are rounded to two digits: 0.704 is not above 0.7 there, 0.706 is.
    for width, hit in ((704, 0), (706, 1)):
        result = score("tt_deteval_0.7_0.6", [box(0, 0, 1000, 10)], [box(0, 0, width, 10)])
        assert result["recall_sum"] == hit


def test_ctw_has_no_ignored_regions_and_skips_invalid_detections():
    region, crossed = box(0, 0, 100, 20), [[0, 0], [50, 20], [50, 0], [0, 20]]
    result = score("ctw1500_official", [region, box(0, 50, 9, 60)], [region, crossed], ignore=[False, True])
    assert figures(result) == (1.0, 0.5)
    assert result["per_image"][0]["left_out"]["detections"] == [1]
    assert result["average_precision"] == 0.5


def test_a_difficult_line_of_td500():
    easy, difficult = box(0, 0, 100, 20), box(0, 50, 100, 70)
    # Missed, it is free; found, it counts.
    assert figures(score("psenet_msra", [easy, difficult], [easy], ignore=[False, True])) == (1.0, 1.0)
    result = score("psenet_msra", [easy, difficult], [difficult], ignore=[False, True])
    assert figures(result) == (1.0, 0.5)


def rotated(box, angle):
    x, y, width, height = box
    center = np.array([x + width / 2, y + height / 2])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return center + corners @ turn


def test_td500_compares_upright_boxes_and_angles():
    line = (100, 100, 200, 40)
    for difference, hit in ((0.0, 1), (0.39, 1), (0.4, 0), (-0.39, 1), (-0.4, 0)):
        truth = {"polygons": [rotated(line, 0.2)], "rotated_boxes": [(*line, 0.2)]}
        found = {"polygons": [rotated(line, 0.2 + difference)], "rotated_boxes": [(*line, 0.2 + difference)]}
        assert evaluate_detections([found], [truth], "td500")["recall_sum"] == hit
        # The same without the boxes: they are found around the outlines.
        for group in (truth, found):
            del group["rotated_boxes"]
        assert evaluate_detections([found], [truth], "td500")["recall_sum"] == hit
    # A line that stands upright may be measured as leaning to either side; given angles are taken as they are.
    steep = [math.pi / 2 - 0.05, -math.pi / 2 + 0.05]
    outlines = [[{"polygons": [rotated(line, angle)]}] for angle in steep]
    assert evaluate_detections(*outlines, "td500")["recall_sum"] == 1
    boxes = [[{"polygons": [rotated(line, a)], "rotated_boxes": [(*line, a)]}] for a in steep]
    assert evaluate_detections(*boxes, "td500")["recall_sum"] == 0


def test_only_one_language():
    words = [box(0, 0, 100, 20), box(0, 50, 100, 70)]
    result = score("mlt_iou_latin", words, words, languages=["Latin", "Korean"], scores=[0.5, 0.9])
    assert (result["num_ground_truth"], result["num_detections"], result["average_precision"]) == (1, 1, 1.0)
    with pytest.raises(ValueError, match="`languages`"):
        score("mlt_iou_latin", words, words)


def test_average_precision_by_hand():
    words = [box(0, 40 * i, 100, 40 * i + 20) for i in range(4)]
    found = [words[0], box(500, 0, 600, 20), words[1], words[2]]
    result = score("mlt", words, found, scores=[0.9, 0.8, 0.7, 0.1])
    assert result["average_precision"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 4)


def test_the_thresholds_of_mmocr_are_those_of_the_scripts():
    assert PROTOCOLS["mmocr0_hmean_iou"].sweep.thresholds == (
        0.30000000000000004, 0.4, 0.5, 0.6000000000000001, 0.7000000000000001, 0.8, 0.9)  # fmt: skip
    assert PROTOCOLS["mmocr1_hmean_iou"].sweep.thresholds == (
        0.3, 0.4, 0.5, 0.6000000000000001, 0.7000000000000002, 0.8000000000000003, 0.9000000000000001)  # fmt: skip
    words = [box(0, 40 * i, 100, 40 * i + 20) for i in range(3)]
    false = [box(500, 40 * i, 600, 40 * i + 20) for i in range(3)]
    scores = [0.9, 0.7, 0.3, 0.55, 0.35, 0.3]
    result = score("mmocr", words, words + false, scores=scores)
    # A score of 0.3 never counts, and 0.6 is the first threshold without the false ones.
    assert result["best_threshold"] == 0.6000000000000001
    assert figures(result) == (1.0, pytest.approx(2 / 3))
    assert result["sweep"][0]["num_detections"] == 4
    assert result["no_score_filter"]["num_detections"] == 6
    assert list(result["per_image"][0]["missed"]) == [2]
    # One threshold that is asked for is no sweep.
    evaluator = TextDetectionEvaluator("mmocr")
    evaluator.add({"polygons": words, "scores": [0.9, 0.7, 0.3]}, {"polygons": words})
    assert evaluator.compute(0.3)["recall"] == 1.0


def test_characters_by_hand():
    word = box(0, 0, 80, 20)  # 4 characters at x = 10, 30, 50, 70
    first_three = box(0, 0, 65, 20)
    result = score("cleval", [word], [first_three], texts=["text"])
    assert figures(result) == (1.0, 0.75)
    assert figures(score("tedeval", [word], [first_three], texts=["text"])) == (0.75, 0.75)
    # Cut in two: nothing is lost but the cut.
    halves = [box(0, 0, 40, 20), box(40, 0, 80, 20)]
    result = score("cleval", [word], halves, texts=["text"])
    assert (result["recall"], result["split_penalty"], result["precision"]) == (0.75, 1, 1.0)
    # A wide false detection costs one character, a high one many.
    for shape, cost in ((box(200, 0, 300, 20), 1), (box(200, 0, 220, 100), 5), (box(200, 0, 201, 100), 10)):
        assert score("cleval", [word], [word, shape], texts=["text"])["false_characters"] == cost
    with pytest.raises(ValueError, match="needs `texts`"):
        score("cleval", [word], [word])


def test_what_has_nothing_to_divide_by():
    region = box(0, 0, 10, 10)
    for protocol in ("rrc_iou", "db_iou", "ic13_deteval", "mlt_iou", "tt_deteval_0.7_0.6", "ctw1500_official"):
        result = score(protocol, [], [])
        assert (*figures(result), result["hmean"]) == (0.0, 0.0, 0.0) and "error" not in result
    assert figures(score("mmocr", [], [])) == (1.0, 1.0)
    assert figures(score("mmocr", [], [region])) == (0.0, 1.0)
    for protocol in ("tt_pascal", "psenet_tt_deteval_0.7_0.6", "psenet_msra"):
        result = score(protocol, [region], [])
        assert all(math.isnan(value) for value in figures(result)) and "without any detection" in result["error"]
    result = score("art", [region], [])
    assert math.isnan(result["precision"]) and result["recall"] == 0.0


def test_adet_refuses_what_crosses_itself_and_db_drops_it():
    crossed, region = [[0, 0], [50, 20], [50, 0], [0, 20]], box(0, 0, 100, 20)
    with pytest.raises(ValueError, match=r"detections\[1\] crosses or touches itself.*'db_iou'"):
        score("adet_det_only", [region], [region, crossed])
    with pytest.raises(ValueError, match=r"ground_truth\[0\]"):
        score("adet_det_only", [crossed], [region])
    result = score("db_iou", [crossed, region], [crossed, region])
    assert figures(result) == (1.0, 1.0)
    assert result["per_image"][0]["pairs"] == [("one-to-one", (1,), (1,))]
    assert result["per_image"][0]["left_out"] == {"ground_truth": [0], "detections": [0]}


def test_names():
    assert set(ALIASES.values()) <= set(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and get_protocol(name) is protocol and protocol.title
    assert get_protocol("ICDAR2015") is get_protocol("rrc_iou") is PROTOCOLS["rrc_iou"]
    assert get_protocol("Total-Text Pascal") is PROTOCOLS["tt_pascal"]
    assert get_protocol("MSRA-TD500") is PROTOCOLS["td500_angle"]
    with pytest.raises(ValueError, match="unknown protocol 'icdar1999'.*icdar2015.*rrc_iou"):
        get_protocol("icdar1999")


def test_tall_detections_of_tedeval_are_not_turned():
    # Two halves, 20 wide and 60 high, side by side. Their lines start in the middle of the left side: (0, 30) and (20, 30),
    # on one line with both centers, (10, 30) and (30, 30). Started in the middle of the top, they would be seen under
    # atan(30 / 20) = 56 degrees and refused. Each half holds one of the two characters, at (10, 30) and (30, 30).
    halves = [box(0, 0, 20, 60), box(20, 0, 40, 60)]
    result = score("tedeval", [box(0, 0, 40, 60)], halves, texts=["ab"])
    assert (result["recall_sum"], result["precision_sum"], result["num_detections"]) == (1.0, 1.0, 2)
    # One above the other, 20 x 40 each: seen under atan(10 / 40) = 14 degrees, at most 45. The word, 20 x 80, is read
    # downwards, its characters are at (10, 20) and (10, 60).
    halves = [box(0, 0, 20, 40), box(0, 40, 20, 80)]
    result = score("tedeval", [box(0, 0, 20, 80)], halves, texts=["ab"])
    assert (result["recall_sum"], result["precision_sum"]) == (1.0, 1.0)
    # The same word of wide pieces, 20 x 10: atan(10 / 10) = 45 degrees, refused.
    pieces = [box(0, 10 * i, 20, 10 * i + 10) for i in range(8)]
    assert score("tedeval", [box(0, 0, 20, 80)], pieces, texts=["ab"])["recall_sum"] == 0
    # Words of one tall detection are read as they lie: each of these downwards, from the middle of its top.
    words = [box(0, 0, 20, 40), box(0, 40, 20, 80)]
    result = score("tedeval", words, [box(0, 0, 20, 80)], texts=["ab", "cd"])
    assert (result["recall_sum"], result["precision_sum"]) == (2.0, 1.0)


def test_a_protocol_of_ones_own(monkeypatch):
    for name in ("PROTOCOLS", "ALIASES", "_ALIASES"):
        monkeypatch.setattr(protocols, name, dict(getattr(protocols, name)))
    mine = replace(protocols.PROTOCOLS["rrc_iou"], name="mine", title="Mine")
    protocols.register_protocol(mine, "My Own")
    assert protocols.get_protocol("mine") is protocols.get_protocol("my-own") is mine
    for names in (("rrc_iou",), ("other", "ic15"), ("other", "my_own"), ("IC15",)):
        with pytest.raises(ValueError, match="choose another"):
            protocols.register_protocol(replace(mine, name=names[0]), *names[1:])
    assert "other" not in protocols.PROTOCOLS and protocols.PROTOCOLS["rrc_iou"].title != "Mine"
    protocols.register_protocol(replace(mine, name="rrc_iou"), exist_ok=True)
    assert protocols.get_protocol("ic15").title == "Mine"
