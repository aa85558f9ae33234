"""Metrics over answers: one that is registered from outside is shown by every reader."""

from __future__ import annotations

import csv
import io

import pytest
from from_bodies import laid_out, page
from synthetic_records import accuracy

from harness.analysis.frames import load
from harness.analysis.metrics import METRICS, how_to_read, metric
from harness.records import file as records
from harness.tables.markup import latex
from harness.tables.paper import Style
from harness.tables.table import comma_separated
from harness.tables.terminal import plain

BODIES = [accuracy("unpruned", None), accuracy("fastv")]
for number, sample in enumerate(BODIES[1]["samples"]):
    sample["answer"] = "2" * (1 + number)  # of 1 to 4 letters, where unpruned's has 1


@pytest.fixture
def longer():
    """A metric of a user's own, until the test ends."""

    @metric("longer", "Longer", "letters", better="less", meaning="how much longer the answer is")
    def longer(ours, theirs):
        return float(len(ours.text) - len(theirs.text)) if len(ours.text) < 4 else None

    yield longer
    del METRICS["longer"]


def paper():
    (table,) = laid_out(BODIES, "paper", Style(fidelity=True))
    return table


@pytest.mark.usefixtures("longer")
def test_a_metric_from_outside_is_in_tables_the_page_and_frames(tmp_path):
    (_, fastv) = csv.DictReader(io.StringIO(comma_separated(paper())))
    assert fastv["longer"] == "1.0"  # the mean of 0, 1 and 2; of the last question it says nothing
    assert "Longer letters" in plain(paper())
    assert "Longer ↓, how much longer the answer is" in plain(paper())
    assert r"Longer $\downarrow$, how" in latex([paper()])
    assert "U+" not in latex([paper()])
    assert "Longer letters" in page(BODIES)
    for body in BODIES:
        records.write(tmp_path, body)
    frame = load(tmp_path)
    assert frame[frame["method"] == "fastv"]["longer"].tolist()[:3] == [0.0, 1.0, 2.0]
    assert frame["longer"].isna().sum() == 1 + 4  # unpruned is not compared with itself


def test_without_it_nothing_of_it_is_left():
    assert "longer" not in comma_separated(paper())
    assert list(METRICS) == ["same", "to_wrong", "to_right", "kl"]


def test_frames_hold_what_the_table_averages(tmp_path):
    for body in BODIES:
        records.write(tmp_path, body)
    frame = load(tmp_path)
    (_, fastv) = csv.DictReader(io.StringIO(comma_separated(paper())))
    means = frame[frame["method"] == "fastv"][list(METRICS)].mean()
    assert [float(fastv[name]) for name in METRICS] == pytest.approx(means.tolist(), abs=0.05)


@pytest.mark.usefixtures("longer")
def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(ValueError, match="there is a metric 'longer' already"):
        metric("longer", "", "", better="more", meaning="")(lambda ours, theirs: None)


def test_the_line_below_a_table_says_which_way_is_better():
    assert how_to_read().startswith(
        "Fidelity, to the unpruned model on the same questions: Same ↑, equal answers; To wrong ↓,"
    )
