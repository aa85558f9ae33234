"""Published figures: chosen between sources, beside measured ones, never without their source."""

from __future__ import annotations

import csv
import io

import pytest
from from_bodies import configurations
from synthetic_records import accuracy

from harness.cli.app import BAD_INPUT, main
from harness.tables.paper import Style, paper_table
from harness.tables.published import Figure, figures, model_of, preferred, survey
from harness.tables.table import comma_separated
from harness.tables.terminal import plain


def figure(kind="paper", source="A", method="FastV", benchmark="GQA"):
    return Figure("M", method, "64", benchmark, "accuracy", 50.0, 90.0, source, kind, "")


def rows(table):
    return list(csv.DictReader(io.StringIO(comma_separated(table))))


def test_every_figure_has_a_source_a_kind_and_a_number():
    assert len(figures()) > 2000
    for found in figures():
        assert found.source
        assert found.kind in ("paper", "repo", "secondary")
        assert found.value is not None or found.relative is not None


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (figure("repo"), figure("paper")),
        (figure("secondary"), figure("repo")),
        (figure(source="SparseVLM Table 1"), figure(source="FastV Table 2")),
        (figure("repo", source="FastV README"), figure("paper", source="SparseVLM Table 1")),
    ],
)
def test_a_paper_before_a_repository_before_a_transcription_and_ones_own_before_a_rivals(
    worse, better
):
    assert preferred([worse, better]) == preferred([better, worse]) == [better]


def test_the_survey_holds_vitcops_average_and_the_source_of_each_figure():
    table = survey("LLaVA-1.5-7B", 64)
    vitcop = [row for row in rows(table) if row["method"] == "ViTCoP"]
    (average,) = [r for r in vitcop if r["Average (relative)_percent"]]
    assert average["Average (relative)_percent"] == "94.7"
    assert average["source"].startswith("chaser682/ViTCoP performance_comparison.png")
    assert {row["method"] for row in rows(table)} >= {"FastV", "SparseVLM", "VisionZip"}
    assert all(row["source"] and row["source_kind"] for row in rows(table))
    for row in rows(table):
        assert any(note.endswith(row["source"]) for note in table.notes)
    assert "94.7" in plain(table)


def test_a_figure_of_a_method_and_benchmark_is_shown_once():
    seen = [
        (row["method"], name)
        for row in rows(survey("llava-1.5-7b-hf", 64))
        for name, value in row.items()
        if name.endswith("_percent") and value
    ]
    assert len(seen) == len(set(seen)) > 100


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("llava-1.5-7b-hf", "LLaVA-1.5-7B"),
        ("/models/llava-1.5-13b-hf", "LLaVA-1.5-13B"),
        ("embedded", None),
    ],
)
def test_a_checkpoints_name_means_a_published_model(name, model):
    assert model_of(name) == model


def test_published_rows_stand_apart_below_what_was_measured():
    """POPE's are F1, so accuracy is compared with none of them."""
    measured = [
        accuracy("unpruned", None, task="pope", scores=[1.0] * 10),
        accuracy("vitcop", 64, task="pope", scores=[1.0] * 6 + [0.0] * 4),
    ]
    for record, f1 in zip(measured, (1.0, 0.8), strict=True):
        record["identity"] = {**record["identity"], "model": "llava-1.5-7b-hf"}
        record["metric"] = "pope_accuracy"
        known = {"per_question": None, "without": [f1, f1 - 0.1, f1 + 0.1], "why": None}
        record["metrics"] = {
            "pope_accuracy": {"value": 0.6, "per_question": 1.0, "without": None, "why": None},
            "pope_f1_score": {"value": f1, **known},
        }
    groups, _ = configurations(measured)
    table = paper_table(groups, Style(published=True))
    printed = [row for i, row in enumerate(rows(table)) if i in table.apart]
    (vitcop,) = [row for row in printed if row["method"].startswith("ViTCoP")]
    assert (vitcop["pope"], vitcop["pope F1"]) == ("", "80.7")
    assert vitcop["measured_minus_published"] == "-0.7"
    assert not any(row in {i for i, _ in table.bold} for row in table.apart)
    assert any("as quoted in" in note and "(secondary)" in note for note in table.notes)
    assert not paper_table(groups, Style()).apart


def test_a_model_without_published_figures_says_so():
    groups, _ = configurations([accuracy("unpruned", None), accuracy()])
    table = paper_table(groups, Style(published=True))
    assert not table.apart
    assert any(note.startswith("No published figures") for note in table.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "LLaVA-1.5-70B"], "did you mean 'LLaVA-1.5-7B'"),
        (["--budget", "65"], "at 65 tokens; there are 32, 64"),
    ],
)
def test_what_nobody_published_is_one_sentence(capsys, options, said):
    assert main(["table", "--published-only", *options]) == BAD_INPUT
    assert said in capsys.readouterr().err
