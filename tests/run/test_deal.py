"""Whose turn which shard of which cell is."""

from __future__ import annotations

from harness.records.cell import Cell
from harness.run.deal import Deal, Unit

CELLS = [Cell.parse(text) for text in ("unpruned", "fastv@64", "vitcop@64")]


def units(shards: int, tasks: str = "t") -> list[Unit]:
    return [
        Unit(tasks.index(task) * len(CELLS) + i, cell, task, shard, (shard,))
        for shard in range(shards)
        for task in tasks
        for i, cell in enumerate(CELLS)
    ]


def taken(deal: Deal, *workers: str) -> list[tuple[str, int, str]]:
    found = [deal.next(worker) for worker in workers]
    return [(unit.task, unit.shard, unit.cell.text) for unit in found if unit]


def test_one_worker_has_all_cells_of_a_shard_before_the_next():
    deal = Deal(units(2, "ab"))
    assert [deal.next("w") for _ in range(12)] == units(2, "ab")
    assert deal.next("w") is None


def test_each_worker_begins_a_shard_of_its_own_and_stays_with_it():
    deal = Deal(units(3))
    cells = [cell.text for cell in CELLS]
    assert taken(deal, *"vwvwvw") == [("t", shard, c) for c in cells for shard in (0, 1)]
    assert taken(deal, "w") == [("t", 2, "unpruned")]


def test_who_has_nothing_left_helps_where_most_is_left():
    deal = Deal(units(2))
    assert taken(deal, *"vwvv") == [
        *(("t", 0, "unpruned"), ("t", 1, "unpruned"), ("t", 0, "fastv@64"), ("t", 0, "vitcop@64")),
    ]
    assert taken(deal, *"vwv") == [("t", 1, "fastv@64"), ("t", 1, "vitcop@64")]


def test_what_was_not_answered_is_next():
    deal = Deal(units(1))
    lost = deal.next("v")
    deal.put_back(lost)
    assert deal.next("w") == lost
    assert len(deal) == 2


def test_what_nobody_needs_is_dropped():
    deal = Deal(units(2))
    deal.drop(1)
    assert [deal.next("v").cell.text for _ in range(len(deal))] == ["unpruned", "vitcop@64"] * 2
