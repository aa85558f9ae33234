"""Questions answered as one batch: with several images or none, and inside the tower."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from PIL import Image

from harness.accuracy import answers
from harness.accuracy.answers import Answerer
from harness.embedded import benchmark
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell
from harness.records.selections import rows_of
from methods import Budget
from methods.sharing import TowerStore

TASK = "embedded_count"
CELLS = [Cell.parse(text) for text in ("unpruned", "fastv@64", "vitcop@64", "random@64#2")]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny", "cpu")


@pytest.mark.parametrize("beams", [1, 2])
def test_prompts_with_two_images_or_none_are_answered_as_alone(
    loaded: LoadedModel, beams: int
) -> None:
    items = benchmark.items(TASK)[:3]
    questions = [
        answers.Question(f"{TASK}/{i}", partial(prompt, item, images))
        for i, (item, images) in enumerate(zip(items, (1, 2, 0), strict=True))
    ]
    method = CELLS[2].method.build()
    answerer = Answerer(loaded, method, Budget(64), store=TowerStore(2**30))
    generation = {"max_new_tokens": 4, "num_beams": beams}
    together = answerer.answer(questions, generation)
    for question, batched in zip(questions, together, strict=True):
        alone = Answerer(loaded, method, Budget(64)).answer([question], generation)[0]
        assert alone.text == batched.text
        assert alone.ledger == batched.ledger
        assert alone.selections == batched.selections
    assert [len(answer.images) for answer in together] == [1, 2, 0]
    assert set(together[2].ledger["entering"]) == {0}


@pytest.mark.parametrize("name", ["flowcut", "tome"])
def test_a_method_inside_the_tower_shares_no_images(loaded: LoadedModel, name: str) -> None:
    """It runs the tower itself, and leaves the others what they had."""
    items = benchmark.items(TASK)[:2]
    questions = [
        answers.Question(f"{TASK}/{i}", partial(prompt, item, 1)) for i, item in enumerate(items)
    ]
    store, generation = TowerStore(2**30), {"max_new_tokens": 4}

    def answered(cell: str, **shared: Any) -> list[answers.Answer]:
        method, budget = Cell.parse(cell).method.build(), Budget(192)
        return Answerer(loaded, method, budget, **shared).answer(questions, generation)

    own = answered(name)
    before = answered("fastv", store=store)
    assert answered(name, store=store) == own
    assert answered("fastv", store=store) == before
    rows = own[0].ledger["tower"][0]
    assert rows[0][0] == 577
    assert rows[-1] == [193, 193]
    assert own[0].selections[0]["rows"] == 577
    assert len(rows_of(own[0].selections[0]["kept"])) == 192


def prompt(item: benchmark.Item, images: int) -> tuple[str, list[Image.Image]]:
    image = Image.fromarray(benchmark.image(item.image_id))
    return f"USER: {'<image>' * images} {item.question} ASSISTANT:", [image] * images
