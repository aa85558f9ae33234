"""What was kept of crops, tiles and free grids, followed to its place in the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forbidden_keys import generated, pruned
from synthetic_records import accuracy
from tiny_families import FAMILIES, alone
from tower_methods import OWN_IMAGES, images

from harness.records.faults import fault
from harness.records.grids import grid_bodies, grids_of
from harness.records.selections import Selection, selections_of
from harness.tables.page.overlay import Patches, overlay
from harness.tables.page.views import followed
from methods import Budget, get_method
from methods.crops import patches_of, tower_rows
from methods.trace import Prefill

ONE_IMAGE = {
    "llava_next": (1, OWN_IMAGES["llava_next"][1]),
    "onevision_crops": (0, OWN_IMAGES["onevision_crops"][0]),
    "internvl": (1, OWN_IMAGES["internvl"][1]),
    **dict.fromkeys(
        ("qwen2_5_vl", "qwen3_vl"), (1, images(0, 0) | {"image_grid_thw": slice(2, 3)})
    ),
}
"""The prompt about one image, and its image: of tiles 2 × 2 and the whole."""


def prefill_of(family: str, name: str) -> Prefill:
    model, inputs = FAMILIES[family]()
    row, own = ONE_IMAGE[family]
    if family.startswith("qwen"):
        own = {**own, "pixel_values": slice(6 * 10 + 8 * 4, None)}
    prompt = alone(inputs, row, own)
    _, trace = pruned(generated, get_method(name), model, prompt, budget=Budget(fraction=0.5))
    return trace.prefills[-1]


def traced(prefill: Prefill) -> Patches | None:
    grids = grids_of(grid_bodies(prefill.sizes[0]))
    (selections,) = selections_of(prefill)
    return followed([Selection.of(body) for body in selections], grids, 1)


@pytest.mark.parametrize("family", ["llava_next", "onevision_crops", "internvl"])
def test_a_token_is_a_row_of_the_tower_where_the_runtime_takes_it_from(family: str) -> None:
    (sizes,) = prefill_of(family, "unpruned").sizes
    for segment, grid in zip(sizes.segments, grids_of(grid_bodies(sizes)), strict=True):
        for part in segment.parts():
            rows = tower_rows(patches_of(part, segment, torch.device("cpu"))[None], segment)
            at = [
                part.first + i * part.row_tokens + j for i in range(part.h) for j in range(part.w)
            ]
            assert [grid.tower[token] for token in at] == rows[0].tolist()
        assert grid.place.count(-1) == segment.newlines
        assert [p for p in grid.place if p >= 0] == list(range(segment.h * segment.w))


CUTS = [
    *((family, name) for family in ONE_IMAGE for name in ("unpruned", "fastv")),
    *((family, "vitcop") for family in ONE_IMAGE if family != "qwen3_vl"),
    *(("llava_next", name) for name in ("hired", "visionzip")),
    *(("internvl", "hired"), ("qwen2_5_vl", "hiprune")),
]


@pytest.mark.parametrize(("family", "name"), CUTS)
def test_survivors_are_the_tokens_that_entered_the_last_layer(family: str, name: str) -> None:
    prefill = prefill_of(family, name)
    found = traced(prefill)
    assert found is not None
    tokens = len(set(found.row[found.row >= 0].tolist()))
    # a patch that padding filled has a token, and no place in the image
    left = int(prefill.entering[0, -1])
    assert tokens == left if name in ("unpruned", "fastv") else 0 < tokens <= left
    newlines = prefill.sizes[0].newlines
    assert sum(view.size for view in found.views) == len(found.row) - newlines
    clear = np.asarray(overlay(found))[..., 3] == 0
    assert clear.shape[0] == clear.shape[1]
    assert clear.all() if name == "unpruned" else clear.any()
    assert name != "fastv" or not clear.all()


def test_tiles_lie_row_by_row_before_the_view_of_the_whole() -> None:
    found = traced(prefill_of("internvl", "unpruned"))
    assert found is not None
    tiles, whole = found.views
    assert tiles.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert whole.tolist() == [[16, 17], [18, 19]]


def test_a_spot_is_as_bright_as_the_view_that_kept_it() -> None:
    whole, fine = np.array([[0]]), np.array([[1, 2], [3, 4]])
    row, lost = np.array([-1, 0, -1, -1, -1]), np.array([0, -1, 1, 0, 0])
    alpha = np.asarray(overlay(Patches(row, lost, 2, (whole, fine))))[::2, ::2, 3]
    assert alpha[0, 0] == 0
    assert 0 < alpha[0, 1] < alpha[1, 0] == alpha[1, 1]
    kept = Patches(np.array([0, -1, -1, -1, -1]), np.array([-1, 0, 0, 0, 0]), 2, (whole, fine))
    assert not np.asarray(overlay(kept))[..., 3].any()


def test_what_lies_nowhere_is_not_drawn() -> None:
    body = {"h": 2, "w": 2, "newline": "none"}
    assert followed([], grids_of([body]), 1) is not None
    assert followed([], grids_of([body]), 2) is None
    assert followed([], grids_of([body] * 3), 1) is None  # two tiles beside the whole
    assert followed([], grids_of([body] * 5), 1) is not None
    assert followed([], grids_of([{**body, "h": 10**6}]), 1) is None
    beyond = {**body, "crops": [1, 1, 2, 1, 0], "resampled": False}
    assert grids_of([beyond]) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"crops": [1, 1, 4, 0, 0], "resampled": False}, None),
        ({"crops": [1, 1, 0, 0, 0]}, "a grid's crops are not rows, columns, side, top and left"),
        ({"crops": [1, 1]}, "a grid's crops are not rows, columns, side, top and left"),
        ({"h": 0}, "its samples grids h is 0, not a whole number from 1 to 1000000"),
        ({"newline": "x"}, "its samples grids newline is 'x', not one of none, row, end"),
    ],
)
def test_a_grid_of_wrong_content_is_named(changes: dict, said: str | None) -> None:
    record = accuracy()
    record["samples"][0]["grids"] = [{"h": 4, "w": 4, "newline": "none", **changes}]
    assert fault(record, whole=True) == said
