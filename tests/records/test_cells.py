"""Method specifications and cells as text, and what identifies them."""

from __future__ import annotations

import pytest

from harness.errors import BadInput, unknown
from harness.records.cell import Cell, MethodSpec, unpruned


@pytest.mark.parametrize(
    "text", ["unpruned", "fastv@64", "random@64#3", "sparsevlm:a=b:variant=plus@192"]
)
def test_a_cells_text_reads_back(text):
    assert Cell.parse(text).text == text


def test_settings_have_one_order_and_spaces_do_not_matter():
    assert MethodSpec.parse(" m : b=2 : a=1 ") == MethodSpec("m", (("a", "1"), ("b", "2")))
    assert MethodSpec.parse("m:b=2:a=1").text == "m:a=1:b=2"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a method is NAME or NAME:SETTING=VALUE, not ''"),
        ("fastv:", "a method's setting is written fastv:SETTING=VALUE"),
        ("fastv:layer", "a method's setting is written fastv:SETTING=VALUE"),
        ("fastv:layer=", "a method's setting is written fastv:SETTING=VALUE"),
        ("fastv:=2", "a method's setting is written fastv:SETTING=VALUE"),
        ("fastv:layer=2:layer=3", "fastv is given layer twice"),
    ],
)
def test_what_is_no_method_is_refused(text, sentence):
    with pytest.raises(BadInput, match=sentence):
        MethodSpec.parse(text)


def test_what_is_no_cell_is_refused():
    with pytest.raises(BadInput, match="a cell is METHOD@BUDGET#SEED, not 'fastv@many'"):
        Cell.parse("fastv@many")


def test_a_built_method_has_its_settings_with_their_types():
    assert MethodSpec.parse("fastv:layer=3").build().layer == 3


def test_identity_holds_defaults_too_so_that_spelling_them_out_changes_nothing():
    plain = Cell(MethodSpec.parse("fastv"), 64).identity()
    assert plain == Cell(MethodSpec.parse("fastv:schedule=matched"), 64).identity()
    assert plain != Cell(MethodSpec.parse("fastv:layer=3"), 64).identity()
    assert plain["settings"]["schedule"] == "matched"
    assert (plain["method"], plain["budget"], plain["seed"]) == ("fastv", 64, 0)


def test_rows_are_in_order_unpruned_then_large_budgets_with_controls_last():
    texts = ["random@64", "vitcop@64", "fastv@64", "uniform@64", "fastv@192", "unpruned"]
    ordered = sorted(map(Cell.parse, texts), key=lambda cell: cell.order)
    assert [cell.text for cell in ordered] == [
        "unpruned",
        "fastv@192",
        "fastv@64",
        "vitcop@64",
        "uniform@64",
        "random@64",
    ]
    assert unpruned(3).text == "unpruned#3"


def test_unknown_words_get_the_nearest_match_and_all_names_while_they_are_few():
    assert str(unknown("task", "cuont", ["count", "digits"])) == (
        "unknown task 'cuont'; did you mean 'count'?; allowed: count, digits"
    )
    many = [f"task{n}" for n in range(100)]
    assert str(unknown("task", "task7x", many)) == "unknown task 'task7x'; did you mean 'task7'?"
