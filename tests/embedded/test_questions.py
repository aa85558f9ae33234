"""Answers follow from what was drawn, and every word is in the vocabulary."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.embedded import questions, scenes
from harness.embedded.questions import TASKS, WORDS, Question
from harness.embedded.scenes import COLOURS, SHAPES, SIDE, Object

CIRCLE, SQUARE, CROSS = (SHAPES.index(name) for name in ("circle", "square", "cross"))
RED, BLUE, ORANGE = (COLOURS.index(name) for name in ("red", "blue", "orange"))
OBJECTS = (
    Object(CIRCLE, RED, 3, 10, 10, 20),
    Object(CROSS, BLUE, None, 75, 80, 16),
    Object(CROSS, ORANGE, 7, 140, 150, 20),
)


def _asked(task: str, objects: tuple[Object, ...] = OBJECTS) -> dict[str, str]:
    return {q.text: q.answer for q in questions.possible(task, objects)}


def test_existence_asks_of_present_pairs_and_of_absent_ones_that_share_something() -> None:
    asked = _asked("existence")
    assert asked["is there a red circle ?"] == "yes"
    assert asked["is there an orange cross ?"] == "yes"
    assert asked["is there a red cross ?"] == "no"
    assert asked["is there a green circle ?"] == "no"
    assert "is there a green triangle ?" not in asked


def test_attributes_are_asked_of_what_is_alone() -> None:
    asked = _asked("attribute")
    assert asked["what color is the circle ?"] == "red"
    assert asked["what shape is the blue object ?"] == "cross"
    assert "what color is the cross ?" not in asked


def test_counts_use_plurals() -> None:
    asked = _asked("count")
    assert asked["how many crosses ?"] == "2"
    assert asked["how many squares ?"] == "0"
    assert asked["how many red objects ?"] == "1"


def test_positions_are_ninths_and_not_asked_near_their_edges() -> None:
    asked = _asked("position")
    assert asked["where is the red circle ?"] == "top-left"
    assert asked["where is the blue cross ?"] == "middle"
    assert asked["where is the orange cross ?"] == "bottom-right"
    near = Object(SQUARE, RED, None, SIDE // 3 - 10, 20, 20)
    assert not questions.possible("position", [near])


def test_a_windows_objects_are_placed_in_the_whole_image() -> None:
    (asked,) = questions.possible("position", OBJECTS[:1], corner=(8, 16))
    assert asked.answer == "right"


def test_digits_are_asked_of_objects_that_have_one_and_no_double() -> None:
    assert _asked("digits") == {
        "what digit is on the red circle ?": "3",
        "what digit is on the orange cross ?": "7",
    }
    assert not questions.possible("digits", [OBJECTS[0], OBJECTS[0]])


def test_listing_reads_from_the_top() -> None:
    assert questions.listing(OBJECTS[::-1]) == ("red circle 3 , blue cross none , orange cross 7 ,")


def test_a_sample_repeats_nothing_and_knows_every_word() -> None:
    random, tasks = np.random.RandomState(0), Counter[str]()
    for seed in range(60):
        scene = scenes.draw(np.random.RandomState(seed), scenes.GRID, 3, 8)
        sample = questions.sample(random, scene.objects, 14)
        assert 8 <= len(sample) == len(set(sample)) <= 14
        tasks.update(q.task for q in sample)
        for q in sample:
            assert set(f"{q.text} {q.answer}".split()) <= set(WORDS)
            assert q.answer in WORDS
    assert set(tasks) == set(TASKS)


def test_what_needs_the_shape_is_what_colours_do_not_tell() -> None:
    red_cross = Object(CROSS, RED, None, 20, 140, 16)
    objects = (*OBJECTS, red_cross)
    needing = {
        q.text
        for task in TASKS
        for q in questions.possible(task, objects)
        if questions.needs_shape(q, objects)
    }
    assert {"what color is the circle ?", "how many crosses ?"} <= needing
    assert {"where is the red circle ?", "is there a red circle ?"} <= needing
    assert not {"where is the blue cross ?", "what shape is the blue object ?"} & needing
    assert not {"how many red objects ?", "is there a green circle ?"} & needing


def test_a_sample_can_be_of_what_needs_the_shape() -> None:
    shares = []
    for chance in (0.0, 0.7):
        random, needing = np.random.RandomState(0), []
        for seed in range(40):
            objects = scenes.draw(np.random.RandomState(seed), scenes.GRID, 3, 8).objects
            sample = questions.sample(random, objects, 6, by_shape=chance)
            needing += [questions.needs_shape(q, objects) for q in sample]
        shares.append(np.mean(needing))
    assert shares[1] > shares[0] + 0.2


def test_answers_are_picked_evenly_where_the_scene_allows() -> None:
    random = np.random.RandomState(0)
    asked = questions.possible("existence", OBJECTS)
    picked = Counter(questions.pick(random, asked).answer for _ in range(400))
    assert 150 < picked["yes"] < 250


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match="no task is called 'colour'"):
        questions.possible("colour", OBJECTS)


def test_questions_compare_by_content() -> None:
    assert Question("count", "a", "1") == Question("count", "a", "1")
