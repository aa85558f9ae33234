"""The HTML report's gallery: what became of each patch of an image, drawn over it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from from_bodies import gallery, page, patches
from PIL import Image

from harness.records.groups import read_records
from harness.records.selections import mask
from harness.tables.page.images import asked
from harness.tables.page.overlay import overlay, png

ROOT = Path(__file__).parents[2]
FIRST = ROOT / "results/first"


def stage(kept, rows, groups=None, layer=None):
    made = {"stage": "s", "layer": layer, "segment": None if layer else 0, "rows": rows}
    made["kept"] = mask(kept, rows)
    return made if groups is None else {**made, "groups": groups}


def test_a_patch_is_followed_from_the_tower_through_every_cut():
    tower = stage([0, 2, 3, 5], 10)  # of CLS and 9 patches: CLS, patches 1, 2 and 4
    found = patches([tower, stage([1, 3], 4, layer=2)], 9)
    assert found.row.tolist() == [-1, 0, -1, -1, 1, -1, -1, -1, -1]
    assert found.lost.tolist() == [0, -1, 1, 0, -1, 0, 0, 0, 0]
    assert found.kept.sum() == 2
    assert not found.merged.any()


def test_patches_of_one_group_are_merged():
    found = patches([stage([0, 2], 4, groups=[0, 0, 1, -1], layer=1)], 4)
    assert found.merged.tolist() == [True, True, False, False]
    assert found.kept.tolist() == [False, False, True, False]


def test_an_anchor_outside_its_group_takes_the_free_row():
    """Row 1 is kept whole and gets the mean of rows 2 and 3 added."""
    found = patches([stage([0, 1], 4, groups=[0, -1, 1, 1], layer=1)], 4)
    assert found.row.tolist() == [0, 1, 1, 1]


def test_dropped_is_dark_kept_is_clear_and_later_drops_are_fainter():
    found = patches([stage([0, 1], 4, layer=1), stage([0], 2, layer=2)], 4)
    alpha = np.asarray(overlay(found))[::2, ::2, 3].ravel()
    assert alpha[0] == 0
    assert 0 < alpha[1] < alpha[2] == alpha[3]


def test_several_images_have_no_overlay():
    assert patches([{**stage([0], 4), "segment": 1}], 4) is None


def test_survivors_are_the_tokens_that_entered_the_last_layer():
    for record in read_records([FIRST], whole=True):
        if record.kind == "accuracy":
            for sample in record.body["samples"][:3]:
                found = patches(sample["selections"], record.image_tokens)
                tokens = len(set(found.row[found.row >= 0].tolist()))
                assert tokens == record.ledger[sample["ledger"]].entering[-1]


def test_an_image_that_is_not_the_measured_one_is_not_shown():
    assert asked("embedded_count", "embedded_count/0", "de2ad0363a41069d").question
    assert asked("embedded_count", "embedded_count/0", "0" * 16) is None
    assert asked("gqa", "gqa/0", "de2ad0363a41069d") is None
    assert asked("embedded_count", "embedded_count/9999", "de2ad0363a41069d") is None


def test_the_gallery_prefers_items_on_which_methods_disagree():
    records = [r for r in read_records([FIRST], whole=True) if r.kind == "accuracy"]
    items, without = gallery(records)
    assert not without
    assert {item.task for item in items} == {r.task for r in records}
    assert sum("64" in item.disagree for item in items) > len(items) / 2


def test_a_picture_of_few_colours_is_small_and_exact():
    found = patches([stage(range(0, 576, 7), 576, layer=1)], 576)
    content = png(overlay(found))
    assert len(content) < 400
    shown = Image.open(io.BytesIO(content)).convert("RGBA")
    assert np.array_equal(np.asarray(shown), np.asarray(overlay(found)))
    noise = np.random.default_rng(0).integers(256, size=(40, 40, 4), dtype=np.uint8)
    many = Image.fromarray(noise)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(many)))), np.asarray(many))


def test_questions_without_scores_of_their_own_are_shown_all_the_same():
    records = [r for r in read_records([FIRST], whole=True) if r.kind == "accuracy"]
    bodies = [unscored(record.body) for record in records if record.task == "embedded_count"]
    items, without = gallery(bodies)
    assert items
    assert not without
    assert {shown.verdict for item in items for shown in item.shown} == {"no score of its own"}
    assert "no score of its own" in page(bodies)


def unscored(body):
    """The record of a task whose score is no mean of its questions'."""
    samples = [{**sample, "score": None} for sample in body["samples"]]
    score = {"value": 0.5, "per_question": None, "why": None, "without": [0.4, 0.5, 0.6]}
    return {**body, "samples": samples, "metric": "f1", "metrics": {"f1": score}}
