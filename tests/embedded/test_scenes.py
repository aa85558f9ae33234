"""Scenes are the same everywhere, and hold what questions and benchmark need."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from harness.embedded import scenes
from harness.embedded.scenes import COLOURS, GRID, PATCH, SHAPES, SIDE


def _draw(seed: int, grid: int = GRID, fewest: int = 3, most: int = 8) -> scenes.Scene:
    return scenes.draw(np.random.RandomState(seed), grid, fewest, most)


@pytest.fixture(scope="module")
def drawn() -> list[scenes.Scene]:
    return [_draw(seed) for seed in range(150)]


def test_a_seed_gives_the_same_bytes_on_every_machine() -> None:
    scene = _draw(7)
    total = hashlib.sha256(scene.pixels.tobytes() + scene.labels.tobytes()).hexdigest()
    assert total == "b8a9d109e6b242a198bf16bbdb02bb84782d0e3aa022c17463a4ac8c5185ebdf"


def test_shapes_and_dtypes() -> None:
    for grid in (8, 12, GRID):
        scene = _draw(3, grid, 1, 3)
        assert scene.pixels.shape == (grid * PATCH, grid * PATCH, 3)
        assert scene.pixels.dtype == np.uint8
        assert scene.labels.shape == (grid * grid, 4)


def test_whole_images_hold_three_to_eight_objects_with_small_and_cut_ones(
    drawn: list[scenes.Scene],
) -> None:
    objects = [item for scene in drawn for item in scene.objects]
    assert {len(scene.objects) for scene in drawn} == set(range(3, 9))
    assert {item.size for item in objects} == set(range(11, 27))
    cut = [o for o in objects if min(o.x, o.y) < 0 or max(o.x, o.y) + o.size > SIDE]
    assert len(cut) > len(objects) / 20
    assert {o.shape for o in objects} == set(range(len(SHAPES)))
    assert {o.colour for o in objects} == set(range(len(COLOURS)))
    assert {o.digit for o in objects} == {None, *range(10)}


def test_colours_repeat_so_that_there_is_something_to_count(drawn: list[scenes.Scene]) -> None:
    repeats = [len(s.objects) > len({o.colour for o in s.objects}) for s in drawn]
    assert sum(repeats) > len(drawn) / 2


def test_objects_keep_apart(drawn: list[scenes.Scene]) -> None:
    for scene in drawn:
        taken = np.zeros((SIDE + 20, SIDE + 20), int)
        for o in scene.objects:
            taken[o.y + 10 : o.y + 10 + o.size, o.x + 10 : o.x + 10 + o.size] += 1
        assert taken.max() == 1


def test_labels_tell_what_the_patches_show(drawn: list[scenes.Scene]) -> None:
    for scene in drawn[:30]:
        labels = scene.labels.reshape(GRID, GRID, 4)
        assert labels[..., 3].sum() == len(scene.objects)
        for o in scene.objects:
            middle_x, middle_y = (min(max(c // 2, 0), SIDE - 1) for c in o.centre)
            shape, colour, _, centre = labels[middle_y // PATCH, middle_x // PATCH]
            assert centre == 1
            if SHAPES[o.shape] in ("circle", "square"):
                assert (shape, colour) == (o.shape + 1, o.colour + 1)
                near = scene.pixels[middle_y, middle_x].astype(int)
                if o.digit is None:
                    assert abs(near - scenes.RGB[o.colour]).max() <= 20


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_masks_are_mirrored_and_fill_their_box(shape: int) -> None:
    for size in (11, 20, 26):
        mask = scenes.shape_mask(shape, size)
        assert (mask == mask[:, ::-1]).all()
        assert mask.max() == scenes.FULL
        assert 0.3 < mask.mean() / scenes.FULL < 0.9


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 24 patches"):
        _draw(0, grid=25)
    with pytest.raises(ValueError, match="not a range"):
        _draw(0, fewest=4, most=2)
