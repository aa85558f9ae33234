"""A task answered shard by shard by a real model: the same answers, in memory that stays."""

from __future__ import annotations

import pytest

from harness.accuracy import instrument
from harness.accuracy.instrument import Accuracy
from harness.embedded import benchmark
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell

TASK, LIMIT = "embedded_count", 6
CELLS = [Cell.parse(text) for text in ("unpruned", "vitcop@64", "random@64#2")]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny", "cpu")


def asked(loaded: LoadedModel, **changes) -> Accuracy:
    return Accuracy(loaded, [TASK], **{"limit": LIMIT, "batch_size": 2, **changes})


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.text)
def test_shards_change_no_answer(loaded, cell) -> None:
    whole = asked(loaded, batch_size=1).run(cell, TASK)
    parted = asked(loaded, batch_size=1, shard_questions=4).run(cell, TASK)
    seconds = parted.pop("wall_seconds"), whole.pop("wall_seconds")
    assert all(seconds)
    assert parted == whole


def test_questions_about_one_image_are_of_one_shard(loaded) -> None:
    runner = asked(loaded, limit=None, shard_questions=50)
    shards = runner.shards_of(TASK)
    about = {i: item.image_id for i, item in enumerate(benchmark.items(TASK))}
    assert sorted(document for shard in shards for document in shard) == list(about)
    images = [{about[document] for document in shard} for shard in shards]
    assert len(set.union(*images)) == sum(map(len, images))
    assert all(len(shard) <= 50 for shard in shards)


def test_a_task_of_one_shard_is_not_dealt(loaded) -> None:
    assert asked(loaded).shards_of(TASK) == [tuple(range(LIMIT))]


def test_what_is_kept_does_not_grow_with_the_shards(loaded, monkeypatch) -> None:
    monkeypatch.setattr(instrument, "MOST_PROMPTS", 3)
    probe = asked(loaded, shard_questions=2)
    first, *others = probe.shards_of(TASK)
    probe.answer(CELLS[1], TASK, first)
    bound = probe.store.stored_bytes  # one shard fills it
    small = asked(loaded, shard_questions=2, store_bytes=bound)
    for shard in (first, *others):
        small.answer(CELLS[0], TASK, shard)
        assert 0 < small.store.stored_bytes <= bound
        assert len(small.prompts) <= 3 + 2
        read = small.prompts[f"{TASK}/{shard[0]}"].images
        assert small.store.holds(read, CELLS[1].method.build().tower_reads)
