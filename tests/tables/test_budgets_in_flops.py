"""A budget of FLOPs stays one to every reader: 64 tokens and their FLOPs are two cells."""

from __future__ import annotations

import csv
import io

import pytest
from from_bodies import (
    fidelity_of,
    gallery,
    laid_out,
    made,
    page,
    record_findings,
    requests_of,
    studies,
)
from lxml import html as lxml_html
from synthetic_records import LAYERS, accuracy, efficiency, efficiency_cell, ledger_row

from harness.analysis.frames import load, load_timings
from harness.analysis.stats import mean_of
from harness.records import file as records
from harness.records.cell import Asked
from harness.regress.findings import Verdict
from harness.regress.records import Limits
from harness.run.request import Match
from harness.tables.layouts import WRITERS
from harness.tables.paper import Style
from harness.tables.table import comma_separated
from harness.tables.terminal import plain

FOUR = [1.0, 1.0, 1.0, 1.0]


def in_flops(tokens=61, budget=64, **fields):
    """FastV's record at the FLOPs of a budget, which so many tokens cost."""
    body = accuracy("fastv", tokens, **fields)
    identity = {**body["identity"], "budget": budget, "matched": tokens}
    return {**body, "cell": f"fastv@{budget}={tokens}", "identity": identity}


def timed_in_flops(tokens=61, budget=64, seconds=0.06):
    cell = efficiency_cell("fastv", tokens, seconds)
    return {**cell, "cell": f"fastv@{budget}={tokens}", "budget": budget, "matched": tokens}


BOTH = [accuracy("unpruned", None, scores=FOUR), accuracy(scores=[0.0] * 4), in_flops(scores=FOUR)]


@pytest.mark.parametrize("layout", ["accuracy", "long", "paper"])
def test_every_layout_says_so(layout):
    (table,) = laid_out(BOTH, layout, Style())
    rows = list(csv.DictReader(io.StringIO(comma_separated(table))))
    assert [row["budget"] for row in rows] == ["", "64", "64 in FLOPs"]
    assert len(table.sections) == (1 if layout == "long" else 3)


def test_the_paper_heads_two_blocks_and_compares_within_each():
    noise = accuracy("random", scores=[0.0] * 4)
    (table,) = laid_out([*BOTH, noise], "paper", Style())
    assert list(table.headings.values())[1:] == [
        "Retain 64 tokens (↓ 88.9 %)",
        "The FLOPs of 64 tokens",
    ]
    marked = {(row[0][1], row[0][2]) for row in table.rows if row[0][3]}
    assert marked == {("64", "FastV")}
    for write in WRITERS.values():
        assert (
            "The FLOPs of 64 tokens" in write([table]).replace(r"\_", "_")
            or write is WRITERS["csv"]
        )


def test_no_paper_printed_a_budget_of_flops():
    def asked(body):
        identity = {**body["identity"], "model": "llava-1.5-7b-hf", "task": "gqa"}
        return {**body, "identity": identity, "metric": "exact_match"}

    pairs = [list(map(asked, bodies)) for bodies in (BOTH[:2], BOTH[::2])]
    shown = [laid_out(pair, "paper", Style(published=True))[0] for pair in pairs]
    assert [bool(table.apart) for table in shown] == [True, False]


def test_fidelity_and_figures_keep_them_apart():
    found = fidelity_of(BOTH)
    wrong = {asked: mean_of(close["to_wrong"]) for asked, close in found.items()}
    assert wrong == {Asked("fastv", 64): 100, Asked("fastv", 64, True): 0}
    cells = [efficiency_cell("unpruned", None, 0.1), efficiency_cell("fastv", 64, 0.05)]
    run = efficiency([*cells, timed_in_flops(62)])
    (study,) = studies([*BOTH, run])
    asked = {Asked("unpruned", None), Asked("fastv", 64), Asked("fastv", 64, True)}
    assert {point.asked for point in study.points} == asked
    assert {timing.asked for timing in study.timings} == set(study.layers) == asked
    assert study.budgets == ["64", "64 in FLOPs"]
    assert list(study.labels.values()) == ["FastV", "FastV in FLOPs"]
    text = page([*BOTH, run])
    assert "At the FLOPs of 64 tokens FastV has the highest average, 100.0" in text
    assert "At 64 tokens FastV has the highest average, 0.0" in text
    assert gallery(made(BOTH)) == ([], ["count"])


def test_the_page_keeps_them_apart():
    cells = [efficiency_cell("unpruned", None, 0.1), efficiency_cell("fastv", 64, 0.05)]
    tree = lxml_html.fromstring(page([*BOTH, efficiency([*cells, timed_in_flops(62)])]))
    best = tree.xpath("//table[@class='best']/tbody/tr/th/text()")
    assert best == ["576", "64", "64 in FLOPs"]
    assert tree.xpath("//h4/text()")[1:] == ["Budget 64", "Budget 64 in FLOPs"]
    told = " ".join(tree.xpath("//*[local-name()='svg']/@aria-label"))
    assert "FastV 64 1.93 × 0.0, FastV 64 in FLOPs 1.62 × 100.0" in told
    assert "at 64: FastV 64 to 64." in told
    assert "at 64 in FLOPs: FastV in FLOPs 61 to 61." in told


def test_the_efficiency_table_begins_a_group_at_each():
    cells = [efficiency_cell("unpruned", None, 0.1), efficiency_cell("fastv", 64, 0.05)]
    (table,) = laid_out([efficiency([*cells, timed_in_flops()])], "efficiency", Style())
    assert table.sections == {0, 1, 2}
    assert "64 in FLOPs" in plain(table)


def test_frames_have_both_numbers(tmp_path):
    for body in (*BOTH, efficiency([efficiency_cell("unpruned", None, 0.1), timed_in_flops()])):
        records.write(tmp_path, body)
    for frame in (load(tmp_path), load_timings(tmp_path)):
        told = frame[["cell", "budget", "matched"]].drop_duplicates().set_index("cell")
        assert told.loc["fastv@64=61"].tolist() == [64, 61]
        assert told.loc["unpruned"].isna().all()


# the gate


def test_other_tokens_for_the_same_flops_are_a_regression():
    """A plan that costs more needs fewer tokens for the cost: that is a change of the method."""
    before = [accuracy("unpruned", None), in_flops(61), _run(61)]
    after = [accuracy("unpruned", None), in_flops(60), _run(60)]
    same = record_findings(before, before, Limits())
    assert not [f for f in same if f.verdict is Verdict.WORSE]
    findings = record_findings(before, after, Limits())
    worse = {(f.cell, f.quantity) for f in findings if f.verdict is Verdict.WORSE}
    assert {("fastv@64=61", "tokens"), ("fastv@64=61", "timed tokens")} <= worse
    assert "layer 0 and 3 more: 61 → 60 in 4 of 4 questions" in {f.why for f in findings}


def _run(tokens):
    return efficiency([efficiency_cell("unpruned", None, 0.1), timed_in_flops(tokens)])


def test_budgets_of_tokens_and_of_flops_are_asked_for_apart(tmp_path):
    of_tokens, of_flops = requests_of([*BOTH, in_flops(190, 192)], tmp_path)
    assert (of_tokens.match, of_tokens.budgets) == (Match.TOKENS, (64,))
    assert (of_flops.match, of_flops.budgets) == (Match.FLOPS, (192, 64))
    alone = requests_of([BOTH[0], BOTH[2]], tmp_path)
    assert [request.match for request in alone] == [Match.FLOPS]


def test_a_mean_off_the_tokens_that_were_matched_is_still_a_broken_promise():
    (kept,) = made([in_flops(61)])
    (off,) = made([{**in_flops(61), "ledger": [ledger_row([64] * LAYERS, 4)]}])
    assert kept.is_ok
    assert off.reason == "64.0 visual tokens entered a layer on average, requested were 61"
