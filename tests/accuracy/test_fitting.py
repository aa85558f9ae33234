"""Budgets of questions about several images: of each image, or too small to be asked about them."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset, Features, Image, List, Value
from foreign_task import Content, make_foreign, show
from PIL import Image as Picture

from harness.accuracy.answers import Answerer, Question
from harness.accuracy.fitting import images_shown_by, left_out
from harness.accuracy.instrument import Accuracy
from harness.embedded import benchmark
from harness.errors import BadInput
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell
from methods import Budget

TASK = "embedded_count"
CELLS = [Cell.parse(text) for text in ("unpruned", "fastv@64", "random@64")]
MANY = 5
"""Images of a question at which FastV cannot keep 64 tokens."""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny", "cpu")


def refusal(cell: Cell, images: int) -> str | None:
    most = {"fastv": 2, "vitcop": 0}.get(cell.method.name, 9)
    return f"{cell.text} is at most {most}" if images > most else None


def test_what_one_cell_cannot_be_asked_is_left_out_of_all():
    images = {3: 1, 4: 2, 5: 1, 9: 5, 12: 4}
    found = left_out(images, CELLS, refusal)
    assert found is not None
    assert list(found.kept) == [3, 4, 5]
    assert found.body() == {"questions": 2, "of": 5, "why": "with 4 images fastv@64 is at most 2"}
    assert found.identity() == left_out({**images, 9: 3}, CELLS, refusal).identity()
    assert found.identity() != left_out({**images, 9: 1}, CELLS, refusal).identity()


def test_nothing_is_left_out_where_all_fit_or_nothing_would_be_left():
    assert left_out({3: 1, 4: 2}, CELLS, refusal) is None
    assert left_out({3: 3, 4: 5}, CELLS, refusal) is None
    never = [*CELLS, Cell.parse("vitcop@64")]
    found = left_out({3: 1, 4: 5}, never, refusal)
    assert found is not None
    assert list(found.kept) == [3]


def test_a_method_that_is_not_defined_here_leaves_no_question_out(loaded: LoadedModel):
    cells = [*CELLS, Cell.parse("downsample@64")]
    accuracy = Accuracy(loaded, [TASK])
    why = accuracy.refusal(cells[-1], 1)
    assert why is not None
    assert "not defined here" in why
    assert left_out({3: 1, 4: 1}, cells, accuracy.refusal) is None


def test_images_are_counted_without_decoding_where_a_row_has_one_at_most(monkeypatch):
    features = Features({"q": Value("int64"), "image": Image(), "more": List(Image())})
    file = {"bytes": b"no picture", "path": None}
    rows = {"q": [0, 1, 2, 3], "image": [file, None, file, None], "more": [[], [file], [file], []]}
    table = Dataset.from_dict(rows, features=features)
    task = SimpleNamespace(eval_docs=table, doc_to_visual=lambda document: ["shown", "twice"])
    with monkeypatch.context() as patched:
        patched.setattr(Image, "decode_example", lambda self, value, **_: value)
        assert images_shown_by("t", task, [0, 1, 2, 3]) == {0: 1, 1: 1, 2: 2, 3: 0}
    plain = SimpleNamespace(eval_docs=table.remove_columns(["image", "more"]))
    plain.doc_to_visual = lambda document: [Picture.new("L", (2, 2))] * document["q"]
    assert images_shown_by("t", plain, [1, 3]) == {1: 1, 3: 3}


def test_what_cannot_be_shown_is_one_sentence():
    table = Dataset.from_dict({"q": [0]})

    def missing(document: Any) -> Any:
        raise SystemExit("video path: clip.mp4 does not exist")

    task = SimpleNamespace(eval_docs=table, doc_to_visual=missing)
    with pytest.raises(BadInput, match=r"^task 't' cannot be asked here: .*clip\.mp4"):
        images_shown_by("t", task, [0])


@pytest.mark.parametrize("per_image", [True, False])
def test_a_budget_an_image_is_so_many_times_the_budget(loaded: LoadedModel, per_image: bool):
    items = benchmark.items(TASK)[:4]

    def prompt(item: benchmark.Item, images: int) -> tuple[str, list[Picture.Image]]:
        shown = Picture.fromarray(benchmark.image(item.image_id))
        return f"USER: {'<image>' * images} {item.question} ASSISTANT:", [shown] * images

    questions = [
        Question(f"{TASK}/{i}", partial(prompt, item, images))
        for i, (item, images) in enumerate(zip(items, (2, 1, 0, 2), strict=True))
    ]
    method, settings = CELLS[2].method.build(), {"max_new_tokens": 2}
    answerer = Answerer(loaded, method, Budget(64), per_image=per_image)
    ledgers = [answer.ledger for answer in answerer.answer(questions, settings)]
    means = [sum(row["entering"]) / len(row["entering"]) for row in ledgers]
    assert means == pytest.approx([128, 64, 0, 128] if per_image else [64, 64, 0, 64], abs=1)
    told = [row.get("images", 1) for row in ledgers]
    assert told == ([2, 1, 1, 2] if per_image else [1, 1, 1, 1])


@pytest.fixture
def shows(loaded: LoadedModel, tmp_path, monkeypatch):
    """An accuracy of an embedded task, taken for another's, of which two questions show `MANY`."""
    make_foreign(monkeypatch, tmp_path, TASK)

    def content(number: int, own: Content) -> Content:
        more = [part for part in own if part["type"] == "image"] * (MANY - 1)
        return [*(more if number in (1, 4) else ()), *own]

    def build(**given: Any) -> Accuracy:
        accuracy = Accuracy(loaded, [TASK], limit=6, **given)
        show(monkeypatch, accuracy.tasks.load(TASK), content)
        return accuracy

    return build


def measured(accuracy: Accuracy) -> list[dict[str, Any]]:
    """The accuracy's part of each record's JSON."""
    found = []
    for piece in accuracy.pieces(CELLS):
        results = {cell: accuracy.run(cell, TASK) for cell in piece.cells}
        found.append({"identity": dict(piece.identity), **accuracy.body(piece, results, {})})
    return found


def test_too_many_images_for_one_cell_leave_a_question_out_of_all(shows):
    bodies = measured(shows())
    for body in bodies:
        assert [s["item"] for s in body["samples"]] == [f"{TASK}/{i}" for i in (0, 2, 3, 5)]
        assert (body["left_out"]["questions"], body["left_out"]["of"]) == (2, 6)
        assert body["left_out"]["why"].startswith("with 5 images FastV cannot meet 64 visual")
    assert len({body["identity"]["documents"] for body in bodies}) == 1


def test_a_budget_an_image_leaves_nothing_out(shows):
    for body in measured(shows(per_image=True)):
        assert "left_out" not in body
        assert "documents" not in body["identity"]
        assert body["identity"]["budget_per"] == "image"
        shown = [body["ledger"][sample["ledger"]] for sample in body["samples"]]
        assert [row.get("images", 1) for row in shown] == [1, MANY, 1, 1, MANY, 1]
        means = [sum(row["entering"]) / len(row["entering"]) for row in shown]
        each = body["identity"]["budget"] or 576
        assert means == pytest.approx([each * row.get("images", 1) for row in shown], abs=1)
