"""A batch that the GPU's memory does not hold is answered in halves, and the record says so."""

from __future__ import annotations

import pytest
import torch
from from_bodies import bodies_in

from harness.accuracy.answers import Answerer
from harness.cli.app import main

COMMAND = ["compare", "--model", "tiny", "--methods", "fastv", "--budgets", "64", "--limit", "5"]
COMMAND += ["--tasks", "embedded_count", "--no-efficiency", "--device", "cpu"]


def bodies(directory, batch: int):
    status = main([*COMMAND, "--batch-size", str(batch), "-o", str(directory)])
    return status, bodies_in(directory)


@pytest.fixture
def room_for(monkeypatch):
    """A GPU's memory that holds so many questions at once; those that were answered together."""

    def make(most: int) -> list[int]:
        answer, sizes = Answerer._answer, []

        def within(self, questions, generation):
            if len(questions) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            sizes.append(len(questions))
            return answer(self, questions, generation)

        monkeypatch.setattr(Answerer, "_answer", within)
        return sizes

    return make


def test_half_as_many_are_answered_at_once_and_marked(tmp_path, room_for, capsys):
    _, whole = bodies(tmp_path / "one", 1)
    sizes = room_for(2)
    status, halved = bodies(tmp_path / "halved", 5)
    assert status == 0
    assert sizes == [2, 2, 1] * 2
    assert [b["provenance"].get("batch_halved_to") for b in whole + halved] == [None, None, 2, 2]
    assert [b["identity"]["batch_size"] for b in halved] == [5, 5]
    (record,) = (tmp_path / "halved").glob("accuracy-fastv*")
    capsys.readouterr()
    assert main(["show", str(record)]) == 0
    assert "2 at once from some point on, for want of memory" in capsys.readouterr().out
    texts = [[[s["answer"] for s in b["samples"]] for b in found] for found in (whole, halved)]
    assert texts[0] == texts[1]


def test_where_not_even_one_fits_the_cell_fails_with_the_reason(tmp_path, room_for):
    room_for(0)
    status, found = bodies(tmp_path, 2)
    assert status == 1
    assert {b["status"] for b in found} == {"failed"}
    reasons = [b["reason"] for b in found if b["cell"] == "unpruned"]
    assert "embedded_count/" in reasons[0]
    assert "CUDA out of memory" in reasons[0]
