"""Questions are drawn by image: the same ones for every cell, and pairs stay together."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Picture

from harness.accuracy.drawing import Draw, images_of
from harness.accuracy.instrument import Accuracy
from harness.embedded import benchmark
from harness.errors import BadInput
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell

TASK = "embedded_count"
PAIRS = [f"picture {i // 2}" for i in range(100)]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny", "cpu")


def picture(grey: int) -> Picture.Image:
    return Picture.new("RGB", (4, 4), (grey, grey, grey))


def encoded(grey: int) -> dict[str, Any]:
    with BytesIO() as file:
        picture(grey).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}


def test_all_questions_of_a_drawn_image_come_along():
    drawn = Draw(20, 3).documents("mme", PAIRS)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 20
    assert len({PAIRS[i] for i in drawn}) == 10
    assert drawn != list(range(20))


def test_the_last_image_is_cut_and_a_small_task_is_asked_whole():
    odd = Draw(21, 3).documents("mme", PAIRS)
    assert len(odd) == 21
    assert set(Draw(20, 3).documents("mme", PAIRS)) < set(odd)
    assert Draw(101, 3).documents("mme", PAIRS) == list(range(100))


def test_task_and_seed_alone_tell_what_is_drawn():
    renamed = [f"other {i // 2}" for i in range(100)]
    drawn = Draw(20, 3).documents("mme", PAIRS)
    assert drawn == Draw(20, 3).documents("mme", renamed)
    assert drawn != Draw(20, 4).documents("mme", PAIRS)
    assert drawn != Draw(20, 3).documents("pope", PAIRS)
    assert Draw(4, 0).documents("mme", PAIRS) == [28, 29, 52, 53]


def test_images_in_a_table_are_not_decoded(monkeypatch):
    features = Features({"q": Value("string"), "image": Image(), "more": List(Image())})
    rows = [
        {"q": "a", "image": encoded(1), "more": []},
        {"q": "b", "image": encoded(2), "more": [encoded(1)]},
        {"q": "c", "image": encoded(1), "more": []},
        {"q": "d", "image": {"bytes": None, "path": "one.png"}, "more": []},
        {"q": "e", "image": None, "more": []},
        {"q": "f", "image": None, "more": []},
    ]
    columns = {name: [row[name] for row in rows] for name in features}
    table = Dataset.from_dict(columns, features=features).select([1, 0, 2, 3, 4, 5])
    monkeypatch.setattr(Image, "decode_example", lambda *_: pytest.fail("decoded"))
    found = images_of(SimpleNamespace(eval_docs=table))
    assert found[1] == found[2]
    assert len(set(found)) == 5


def test_images_beside_the_table_are_taken_as_the_task_shows_them():
    shown = {"a": [picture(1)], "b": [picture(2)], "c": ["clip.mp4"], "d": []}
    table = Dataset.from_dict({"id": ["a", "b", "a", "c", "c", "d", "d"]})
    task = SimpleNamespace(eval_docs=table, doc_to_visual=lambda document: shown[document["id"]])
    found = images_of(task)
    assert found[0] == found[2]
    assert found[3] == found[4]
    assert len(set(found)) == 5


def test_a_drawn_question_is_answered_and_scored_as_in_the_whole_task(loaded):
    cell, draw = Cell.parse("random@64#2"), Draw(5, 1)
    few = Accuracy(loaded, [TASK], batch_size=2, draw=draw)
    whole = Accuracy(loaded, [TASK], limit=few.documents(TASK)[-1] + 1, batch_size=4)
    whole.tasks = few.tasks
    heard: list[float | None] = []
    some, all_ = few.run(cell, TASK, heard.append), whole.run(cell, TASK)
    assert few.items(TASK) == len(heard) == 5
    by_item = {sample["item"]: sample for sample in all_["samples"]}
    assert [s["item"] for s in some["samples"]] == [f"{TASK}/{i}" for i in few.documents(TASK)]
    for sample in some["samples"]:
        for key in ("image", "answer", "target", "score", "selections"):
            assert sample[key] == by_item[sample["item"]][key], key
    # the table's and the model's way to tell images agree
    images = {few.tasks.load(TASK).eval_docs[i]["image_id"] for i in few.documents(TASK)}
    assert len(images) == len({sample["image"] for sample in some["samples"]})


def test_a_draw_is_in_the_identity_and_a_limit_leaves_it_as_it_was(loaded):
    def identity(**given: Any) -> dict[str, Any]:
        (piece,) = Accuracy(loaded, [TASK], **given).pieces([Cell.parse("unpruned")])
        return dict(piece.identity)

    first = identity(limit=5)
    assert first.keys() == {
        *("method", "settings", "budget", "seed", "task", "task_version", "limit", "batch_size")
    }
    drawn = {"limit": None, "samples_per_task": 5, "sample": 1}
    assert identity(draw=Draw(5, 1)) == {**first, **drawn}


def test_images_that_cannot_be_read_are_refused(loaded, monkeypatch):
    accuracy = Accuracy(loaded, [TASK], draw=Draw(5))
    table = Dataset.from_dict({"id": ["a"]})

    def missing(document: Any) -> Any:
        raise SystemExit("no such file: clip.mp4")

    task = SimpleNamespace(eval_docs=table, doc_to_visual=missing)
    monkeypatch.setattr(accuracy.tasks, "load", lambda name: task)
    with pytest.raises(BadInput, match=r"images of task 'embedded_count' cannot be read: .*clip"):
        accuracy.documents(TASK)


def test_questions_of_an_embedded_image_stay_together(loaded):
    accuracy = Accuracy(loaded, ["embedded_existence"], draw=Draw(40))
    items = benchmark.items("embedded_existence")
    drawn = accuracy.documents("embedded_existence")
    images = [items[i].image_id for i in drawn]
    partly = [i for i in set(images) if images.count(i) < sum(x.image_id == i for x in items)]
    assert len(partly) <= 1
