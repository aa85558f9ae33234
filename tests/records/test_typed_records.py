"""A record is made once of its JSON: typed, frozen, by columns; its form is that of its types."""

# annotations are evaluated at once, as those of bodies

from dataclasses import FrozenInstanceError
from typing import Annotated, NotRequired, TypedDict

import pytest
from from_bodies import made
from synthetic_records import accuracy, efficiency, without_result

from harness.records import file as records
from harness.records.bodies import AnsweredBody
from harness.records.cell import Asked, Cell
from harness.records.form import COUNT, FULL_LIST, TEXT, TEXT_OR_NONE, form_of, misfit
from harness.records.identity import OF_A_CELL, OF_A_TASK, Identity
from harness.records.phases import PHASES, SHOWN
from harness.records.record import AccuracyRecord


def test_a_record_says_what_its_json_holds():
    body = accuracy("fastv:layer=3", scores=[1.0, 0.0])
    (record,) = made([body])
    assert (record.kind, record.status, record.reason, record.task) == (
        "accuracy",
        "ok",
        None,
        "count",
    )
    assert record.cell == Cell.parse("fastv:layer=3@64")
    assert record.label == "FastV layer=3"
    assert (record.samples.items, record.samples.scores) == (("count/0", "count/1"), (1.0, 0.0))
    assert [row.entering for row in record.ledger] == [[64] * 4]
    assert (record.identity.dtype, record.provenance.commit) == ("float32", "abcdef0123456789")
    assert record.body is body


def test_it_cannot_be_changed():
    (record,) = made([accuracy()])
    with pytest.raises(FrozenInstanceError):
        record.status = "failed"
    with pytest.raises(FrozenInstanceError):
        record.cell.budget = 3


def test_columns_are_made_when_first_asked_for_and_once():
    (record,) = made([accuracy()])
    assert "scores" not in vars(record.samples)
    assert record.samples.scores is record.samples.scores
    assert "answers" not in vars(record.samples)


def test_what_was_not_answered_holds_nothing():
    (record,) = made([{**without_result("failed", reason="no memory"), "ledger": "torn"}])
    assert (len(record.samples), record.ledger, record.is_unscored) == (0, (), False)
    answered = {**accuracy(), "status": "failed", "reason": "no judge"}
    assert made([answered])[0].is_unscored


def test_unpruned_of_a_run_is_the_one_that_was_timed_and_kept_its_promise():
    (run,) = made([efficiency()])
    assert run.unpruned is run.cells[0]
    body = efficiency()
    body["cells"][0]["status"] = "failed"
    assert made([body])[0].unpruned is None


def test_a_record_that_was_read_is_its_file(tmp_path):
    found = records.read(records.write(tmp_path, accuracy()))
    assert isinstance(found, AccuracyRecord)
    assert found.body == accuracy()
    assert found.samples.first_tokens[0] == {1: -0.5, 2: -1.5}
    assert [kept.stage for kept in found.samples.selections[0]] == ["rank"]


def test_cells_of_one_row_differ_in_seed_and_matched_tokens_only():
    same = ["random@64", "random@64#3"]
    assert {Cell.parse(text).asked for text in same} == {Asked("random", 64)}
    flops = ["random@64=61", "random@64=62#1"]
    assert {Cell.parse(text).asked for text in flops} == {Asked("random", 64, in_flops=True)}
    assert [Cell.parse(text).asked.budget_label for text in (*same[:1], *flops[:1])] == [
        "64",
        "64 in FLOPs",
    ]
    assert Cell.parse("unpruned").asked.budget_label == ""


def test_a_configuration_is_what_remains_of_an_identity_without_cell_and_task():
    body = accuracy()["identity"]
    whole = Identity.of(body).configuration
    for key in (*OF_A_CELL, *OF_A_TASK):
        assert Identity.of({**body, key: "other"}).configuration == whole
    for key in ("dtype", "limit", "code_digest", "something_new"):
        assert Identity.of({**body, key: "other"}).configuration != whole


class Part(TypedDict):
    name: str
    counts: Annotated[list[Annotated[int, COUNT]], FULL_LIST]
    note: NotRequired[str | None]


def test_a_form_is_that_of_the_type():
    form = form_of(Part)
    assert form == {"name": TEXT, "counts": (COUNT,), "note?": TEXT_OR_NONE}
    good = {"name": "a", "counts": [1, 2]}
    assert misfit([good, {**good, "note": None}], form) is None
    assert misfit([good, {**good, "counts": []}], form, "part") == (
        "its part counts is [], not a list that is not empty"
    )
    assert misfit([{"counts": [1]}], form) == "it lacks name"
    assert form_of(AnsweredBody)["ledger"][0]["selection_flops?"].holds(3)


def test_phases_are_in_the_order_of_records_and_shown_ones_have_titles():
    assert [phase.name for phase in PHASES if phase.once] == [
        "vision_tower",
        "projector",
        "selection",
        "prefill",
    ]
    assert [f"{phase.title} {phase.unit}" for phase in SHOWN] == [
        "Vision tower ms",
        "Projector ms",
        "Selection ms",
        "Prefill ms",
        "Decode ms/token",
        "End to end ms",
    ]
