"""The benchmark is fixed to the byte, balanced, and apart from what was trained on."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from harness.embedded import TASKS, benchmark, scenes
from harness.embedded.questions import CELLS
from harness.embedded.scenes import COLOURS, SHAPES, SIDE
from harness.embedded.training import batches
from harness.embedded.training.phases import CONTINUED, FULL, SHIPPED_SEED


def test_digest() -> None:
    assert benchmark.digest() == benchmark.DIGEST


def test_five_tasks_of_300_questions_on_shared_images() -> None:
    assert (
        TASKS
        == benchmark.TASKS
        == (
            "embedded_existence",
            "embedded_attribute",
            "embedded_count",
            "embedded_position",
            "embedded_digits",
        )
    )
    names = [item.item_id for task in TASKS for item in benchmark.items(task)]
    assert len(set(names)) == len(names) == 1500
    assert 300 <= len(benchmark.image_ids()) <= 500
    for task in TASKS:
        assert len({item.image_id for item in benchmark.items(task)}) == benchmark.QUESTIONS


@pytest.mark.parametrize("task", TASKS)
def test_answers_meet_their_quotas(task: str) -> None:
    found = Counter(benchmark.stratum(i.question, i.answer) for i in benchmark.items(task))
    assert found == benchmark.quotas(task)
    assert found.total() == benchmark.QUESTIONS
    kinds = {kind for kind, _ in found}
    for kind in kinds:
        numbers = [n for (k, _), n in found.items() if k == kind]
        assert max(numbers) - min(numbers) <= 1


def test_majority() -> None:
    shares = {task: round(benchmark.majority(task), 3) for task in TASKS}
    assert list(shares.values()) == [0.5, 0.183, 0.253, 0.113, 0.1]


def test_no_image_is_a_training_or_validation_image() -> None:
    held_out = {benchmark.image(name).tobytes() for name in benchmark.image_ids()}
    assert len(held_out) == len(benchmark.image_ids())
    keys = {scenes.TRAINING_KEY, scenes.VALIDATION_KEY, scenes.BENCHMARK_KEY}
    assert len(keys) == 3
    for seed, phases in ((0, FULL), (SHIPPED_SEED, CONTINUED)):
        whole = [n for n, phase in enumerate(phases) if phase.recipe.grid == scenes.GRID]
        assert whole
        for number in whole:
            for step in range(3):
                key = (scenes.TRAINING_KEY, seed, number, step)
                batch = batches.training_batch(key, phases[number].recipe)
                assert held_out.isdisjoint(image.tobytes() for image in batch.pixels)
    for batch in batches.validation_batches(4, 4):
        assert held_out.isdisjoint(image.tobytes() for image in batch.pixels)


def test_positions_match_the_pixels() -> None:
    """An unmistakable colour's pixels lie around the cell that is the answer."""
    checked = 0
    for item in benchmark.items("embedded_position")[:120]:
        found = re.fullmatch(r"where is the (\w+) (\w+) \?", item.question)
        assert found
        colour = COLOURS.index(found[1])
        pixels = benchmark.image(item.image_id).astype(int)
        near = (abs(pixels - scenes.RGB[colour]) <= 20).all(-1)
        row, column = next(
            (r, c) for r, cells in enumerate(CELLS) for c, a in enumerate(cells) if a == item.answer
        )
        third = SIDE // 3
        cell = near[row * third : (row + 1) * third, column * third : (column + 1) * third]
        assert cell.sum() >= 12, item
        checked += 1
    assert checked == 120


def test_digit_questions_are_on_large_objects_and_shapes_can_be_rings() -> None:
    asked = [item.question for item in benchmark.items("embedded_digits")]
    assert not any("ring" in question for question in asked)
    answers = {item.answer for item in benchmark.items("embedded_attribute")}
    assert answers == {*COLOURS, *SHAPES}


def test_images_are_arrays_of_the_models_size() -> None:
    image = benchmark.image(benchmark.image_ids()[0])
    assert image.shape == (SIDE, SIDE, 3)
    assert image.dtype == np.uint8


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="no task is called 'count'"):
        benchmark.items("count")
    with pytest.raises(ValueError, match="no image '9999'"):
        benchmark.image("9999")
