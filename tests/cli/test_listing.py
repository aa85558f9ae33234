"""What `harness list` says of methods, read off their plans."""

from __future__ import annotations

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from harness.accuracy.lmms.tasks import _shipped
from harness.cli.app import main
from harness.cli.listing import methods_tables, needs
from harness.cli.suites import BYTES, FLOPS, MODEL, SHAPE, SHARE, seconds_of, suites_tables
from harness.models.presets import configuration
from harness.models.shapes import recorded_shape
from harness.records.suites import EXTENTS, SUITES, Extent
from harness.records.task_metrics import metrics_of
from harness.tables.brief import brief, fitted
from harness.tables.terminal import plain, width_of
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


def test_a_suite_is_its_tasks(capsys):
    (table,) = suites_tables()
    for name, suite in SUITES.items():
        assert len(suite.tasks) == len(set(suite.tasks))
        assert [row[1][0] for row in table.rows if row[0] == (name,)] == list(suite.tasks)
    assert [len(suite.tasks) for suite in SUITES.values()] == [11, 10, 6]
    assert main(["compare", "--suite", "vitcop-images"]) == 2
    assert "unknown suite 'vitcop-images'; did you mean 'vitcop-image'" in capsys.readouterr().err
    assert main(["compare", "--suite", "vitcop-image", "--tasks", "pope"]) == 2
    assert "--tasks" in capsys.readouterr().err
    assert main(["compare", "--suite", "quick", "--limit", "5"]) == 2
    sentence = "harness: --limit has no effect with a suite whose questions are drawn"
    assert capsys.readouterr().err.splitlines() == [sentence]


def test_hours_are_those_of_the_shape_that_they_are_said_to_be_of():
    """A question of LLaVA-1.5-7B takes 9 TFLOP; a further token reads 13 GB of weights."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(configuration(f"random:{MODEL}"))
    assert recorded_shape(model) == SHAPE
    one, two = (seconds_of(Extent(1, answer)) for answer in (1, 2))
    assert one * SHARE * FLOPS == pytest.approx(9.4e12, rel=0.05)
    assert (two - one) * SHARE * BYTES == pytest.approx(13.2e9, rel=0.02)
    (table,) = suites_tables()
    hours = {(row[0][0], row[1][0]): float(row[-1][0]) for row in table.rows}
    # 12,578 questions, of which 200 are drawn
    assert hours["vitcop-image", "gqa"] == pytest.approx(62.9 * hours["quick", "gqa"], rel=0.01)
    assert hours["vitcop-image", "gqa"] == pytest.approx(12578 * seconds_of(Extent(1)) / 3600, 0.01)


@pytest.mark.slow
def test_the_tasks_of_suites_are_lmms_evals_and_have_the_metrics_shown():
    from lmms_eval.utils import load_yaml_config

    library = _shipped()
    for task in EXTENTS:
        assert library.task_index[task]["type"] not in ("group", "tag")
        described = load_yaml_config(library.task_index[task]["yaml_path"], mode="simple")
        names = {metric["metric"] for metric in described["metric_list"]}
        for metric in metrics_of(task, ()):
            assert names >= set(metric.parts)


def test_what_is_cut_before_the_decoder_can_be_handed_on():
    (table,) = methods_tables()
    columns = [column.title for column in table.columns]
    name, before = columns.index("Name"), columns.index("Before decoder")
    known = {row[name][0]: row[before][0] for row in table.rows}
    assert known["visionzip"] == known["divprune"] == known["tome"] == "yes"
    assert known["vitcop"] == known["fastv"] == "no"
    assert known["unpruned"] == ""
    assert known["dycoke"] == ""  # cuts frames, of which one image has one


def test_the_list_of_methods_fits_a_terminal_of_100_columns():
    shown = fitted(brief(methods_tables()[0]), 100)
    assert max(map(len, plain(shown).splitlines())) <= 112  # notes are wrapped at that
    assert width_of(shown) <= 100
    assert [column.title for column in shown.columns] == ["Name", "Venue", "Cuts", "Budgets"]
