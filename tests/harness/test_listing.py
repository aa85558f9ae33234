"""What `harness list` says of methods, read off their plans."""

from __future__ import annotations

import pytest

from harness.listing import methods_tables, needs
from methods import Budget, Segment, Sizes, get_method

SIZES = Sizes(32, (Segment(24, 24),))


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("unpruned", ""),
        ("divprune", ""),
        ("fastv", "attention, question"),
        ("fastv:rope=false", "question"),
        ("vitcop", "attention, CLS"),
        ("vscan", "attention, CLS, question"),
        ("tome", ""),
    ],
)
def test_what_a_method_needs_is_what_its_stages_read(name, needed):
    method, _, setting = name.partition(":")
    settings = dict([setting.split("=")]) if setting else {}
    assert needs(get_method(method, **settings).plan(Budget(64), SIZES)) == needed


def test_what_is_cut_before_the_decoder_can_be_handed_on():
    (table,) = methods_tables()
    columns = [column.title for column in table.columns]
    name, before = columns.index("Name"), columns.index("Before decoder")
    known = {row[name][0]: row[before][0] for row in table.rows}
    assert known["visionzip"] == known["divprune"] == known["tome"] == "yes"
    assert known["vitcop"] == known["fastv"] == "no"
    assert known["unpruned"] == ""
