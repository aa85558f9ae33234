"""Budgets as shares of a sample's visual tokens: written, ordered, promised."""

from __future__ import annotations

from fractions import Fraction

import pytest

from harness.cli.words import parse_budgets
from harness.errors import BadInput
from harness.records.cell import Cell, MethodSpec, budget_of
from harness.records.ledger import LedgerRow, broken_promise
from harness.records.share import Share

FASTV = MethodSpec("fastv")
THIRD = Share.parse("33%")


@pytest.mark.parametrize(
    ("written", "text", "value"),
    [
        ("33%", "33%", Fraction(33, 100)),
        ("33.0%", "33%", Fraction(33, 100)),
        ("12.5%", "12.5%", Fraction(1, 8)),
        ("1/8", "12.5%", Fraction(1, 8)),
        ("2/18", "1/9", Fraction(1, 9)),
    ],
)
def test_a_share_is_written_one_way(written: str, text: str, value: Fraction) -> None:
    share = Share.parse(written)
    assert (str(share), f"{share}", share) == (text, text, value)
    cell = Cell(FASTV, share, 3)
    assert cell.text == f"fastv@{text}#3"
    assert Cell.parse(cell.text) == cell
    assert cell.identity()["budget"] == text
    assert budget_of(cell).of(576) == value * 576


@pytest.mark.parametrize(
    "word", ["0%", "100%", "9/9", "1/0", "0/4", "-5%", "1e1%", "33 %", "0", "x"]
)
def test_what_is_no_budget_is_refused(word: str) -> None:
    with pytest.raises(BadInput, match="a share of them such as 33% or 1/9"):
        parse_budgets(f"64,{word}")


def test_shares_follow_tokens_from_large_to_small() -> None:
    budgets = parse_budgets("1/9,64,33%,192,33.0%")
    assert list(map(str, budgets)) == ["192", "64", "33%", "1/9"]
    cells = [Cell(FASTV, budget) for budget in reversed(budgets)]
    in_order = sorted(cells, key=lambda cell: cell.order)
    assert [cell.asked.budget_label for cell in in_order] == ["192", "64", "33%", "1/9"]
    assert in_order[2].asked.tokens_label == "33 % of the tokens"


def entered(tokens: int, visual: int | None) -> LedgerRow:
    return LedgerRow([tokens] * 4, [tokens + 5] * 4, [tokens] * 4, 5, visual=visual)


def test_each_sample_is_held_to_the_share_of_its_own_tokens() -> None:
    kept = [entered(33, 100), entered(99, 300), entered(0, 0)]
    assert broken_promise(kept, THIRD, published=False) is None
    few = [entered(33, 100), entered(33, 300)]
    assert broken_promise(few, THIRD, False, {0, 1}) == (
        "33.0 visual tokens entered a layer on average, requested were 33% of 300"
    )
    assert "is not told" in (broken_promise([entered(33, None)], THIRD, False) or "")
