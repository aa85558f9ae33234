"""Records of budgets for each image, and of questions that were left out."""

from __future__ import annotations

import pytest
from synthetic_records import LAYERS, accuracy, ledger_row

from harness.analysis.boards import boards
from harness.cli.app import main
from harness.errors import BadInput
from harness.records import file as records
from harness.records.groups import configurations, left_out
from harness.records.record import record_of
from harness.tables.layouts import tables

PER_IMAGE = {"budget_per": "image"}


def two_images(tokens: int = 128, images: int | None = 2, **identity):
    """A record of FastV at 64 tokens, each of whose questions shows two images."""
    body = accuracy("fastv", 64)
    row = ledger_row([tokens] * LAYERS, len(body["samples"]))
    body["ledger"] = [row if images is None else {**row, "images": images}]
    for sample in body["samples"]:
        sample["image"] = f"{sample['image']}+other"
    return {**body, "identity": {**body["identity"], **identity}}


def without_some(method="fastv", documents="aa", created="2026-01-01", **changes):
    body = accuracy(method, None if method == "unpruned" else 64, **changes)
    why = "with 5 images FastV cannot meet 64 visual tokens a layer: feasible is 180 to 2880"
    return {
        **body,
        "identity": {**body["identity"], "documents": documents},
        "left_out": {"questions": 3, "of": 7, "why": why},
        "provenance": {**body["provenance"], "created": f"{created}T00:00:00+00:00"},
    }


def test_the_promise_is_that_of_each_image():
    assert records.checked(two_images(**PER_IMAGE)).is_ok
    broken = records.checked(two_images(tokens=64, **PER_IMAGE))
    assert broken.broken
    assert "requested were 64 for each of 2 images" in broken.reason


@pytest.mark.parametrize(
    "body", [two_images(), two_images(images=3, **PER_IMAGE), two_images(images=None, **PER_IMAGE)]
)
def test_a_ledger_of_other_images_than_its_samples_is_no_record(body):
    with pytest.raises(records.UnreadableRecordError, match="numbers of images than 'count/0'"):
        records.checked(body)


def test_a_budget_an_image_is_another_configuration():
    (table, other) = tables([record_of(accuracy()), record_of(two_images(**PER_IMAGE))])
    assert "budget per" not in table.notes[-1]
    assert "budget per image" in other.notes[-1]


def test_a_table_says_how_many_questions_were_left_out_and_why():
    said = "count: 3 of 7 questions left out of all cells, since with 5 images FastV cannot meet 64"
    found = [record_of(without_some("unpruned")), record_of(without_some())]
    (table,) = tables(found)
    assert table.notes[-1].count(said) == 1
    (plain,) = tables([record_of(accuracy())])
    assert "left out" not in plain.notes[-1]


def test_answers_to_other_questions_of_a_task_share_no_table(tmp_path):
    old = [record_of(without_some("unpruned")), record_of(without_some())]
    new = record_of(without_some("vitcop", "bb", "2026-01-02"))
    other = record_of(accuracy(task="digits"))
    ((first, second),) = configurations([*old, new, other])[0]
    assert {first, second} == {new, other}
    assert left_out([*old, new]) == [
        "count of version 1.0 on questions aa is left out, 1.0 on questions bb is newer"
    ]
    apart = without_some("vitcop", "bb", "2026-01-02")
    apart["identity"] = {**apart["identity"], "dtype": "float16"}
    assert left_out([*old, record_of(apart)]) == []
    sets = {tmp_path / "old": old, tmp_path / "new": [new]}
    with pytest.raises(BadInput, match="which questions of count are asked is aa and bb"):
        boards(sets)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--match", "flop"), "unknown --match 'flop'; did you mean 'flops'?"),
        (("--budget-per", "imag"), "unknown --budget-per 'imag'; did you mean 'image'?"),
        (
            ("--budget-per", "image", "--match", "flops"),
            "--budget-per image takes --match tokens: FLOPs are those of a question",
        ),
        (
            ("--budget-per", "image", "--budgets", "64,33%"),
            "--budget-per image takes budgets in tokens: a share of each image's tokens is one of",
        ),
        (
            ("--budget-per", "image", "--no-accuracy"),
            "--budget-per has no effect with --no-accuracy",
        ),
    ],
)
def test_what_a_budget_an_image_cannot_be_is_refused(options, sentence, tmp_path, capsys):
    assert main(["compare", "--model", "tiny", *options, "--output", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"harness: {sentence}")
