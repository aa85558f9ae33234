"""The HTML report: what it says and what it shows."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from from_bodies import page, studies
from lxml import html as lxml_html
from synthetic_records import accuracy, efficiency, efficiency_cell, without_result

from harness.cli.app import BAD_INPUT, main
from harness.records import file as records_module
from harness.records.groups import read_records
from harness.tables.page import write_report
from harness.tables.page.answer import answer
from harness.tables.page.plots import pareto
from harness.tables.page.summary import listed

ROOT = Path(__file__).parents[2]
FIRST = ROOT / "results/first"
HOSTILE = '<script>alert("x")</script> a_b&c'


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "report.html"
    write_report(read_records([FIRST], whole=True), output)
    return output


# words


def test_the_front_holds_what_no_other_beats_in_both():
    points = [(2.0, 50.0), (1.0, 40.0), (3.0, 45.0), (1.0, 39.0), (4.0, 60.0)]
    assert pareto(points) == [(1.0, 40.0), (2.0, 50.0), (4.0, 60.0)]


def test_lists_in_words():
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_the_summary_says_who_leads_and_whether_that_is_significant():
    def text(rate):
        records = [
            accuracy("unpruned", None, scores=[1.0] * 60),
            accuracy("vitcop", scores=[1.0] * 54 + [0.0] * 6),
            accuracy("fastv", scores=[1.0] * rate + [0.0] * (60 - rate)),
        ]
        return lxml_html.fromstring(page(records)).xpath("string(//section[@class='lead'])")

    assert "ViTCoP has the highest average, 90.0" in text(30)
    assert "significantly ahead of FastV (−40.0)" in text(30)
    assert "not significantly ahead of FastV" in text(53)


def test_the_first_section_is_the_answer():
    records = [
        accuracy("unpruned", None, scores=[1.0] * 60),
        accuracy("vitcop", scores=[1.0] * 54 + [0.0] * 6),
        accuracy("fastv", scores=[1.0] * 52 + [0.0] * 8),
        accuracy("random", scores=[1.0] * 20 + [0.0] * 40),
        efficiency([efficiency_cell("unpruned", None, 0.1), efficiency_cell("vitcop", 64, 0.02)]),
    ]
    tree = lxml_html.fromstring(page(records))
    section = tree.xpath("//main/section")[0]
    whole, best = section.xpath(".//table[@class='best']/tbody/tr")
    texts = [" ".join(cell.text_content().split()) for cell in best]
    assert texts[0] == "64"
    assert texts[1] == "ViTCoP not significantly ahead of FastV 86.7"
    assert re.fullmatch(r"90\.0 8\d\.\d to 9\d\.\d", texts[2])
    assert re.fullmatch(r"−10\.0 −\d+\.\d to −\d\.\d", texts[3])
    assert texts[4] == "6 %"
    assert re.fullmatch(r"4\.\d\d× 4\.\d\d to 4\.\d\d", texts[5])
    assert whole.xpath("string(td[2])").split()[0] == "100.0"
    kinds = [found.tag for found in section.iter("table", "figure")]
    assert kinds == ["table", "figure", "figure"]
    front = section.xpath("string(.//figure[2]/*[local-name()='svg']/@aria-label)")
    assert "On the Pareto front: Unpruned, ViTCoP 64." in front


def test_who_is_far_ahead_and_equal_to_unpruned_is_told_so():
    records = [
        accuracy("unpruned", None, scores=[1.0] * 58 + [0.0] * 2),
        accuracy("vitcop", scores=[1.0] * 57 + [0.0] * 3),
        accuracy("fastv", scores=[1.0] * 10 + [0.0] * 50),
    ]
    _, best = answer(studies(records)[0])
    assert best.others == "significantly ahead of FastV"
    assert not best.sure
    assert "≈ −1.7" in " ".join(lxml_html.fromstring(page(records)).text_content().split())


def test_speedup_is_of_the_prefill_with_its_selection_in_the_same_rounds():
    (found,) = studies([accuracy(), accuracy("unpruned", None), efficiency()])
    slow, fast = found.timings
    assert slow.speedup.value == 1
    assert fast.speedup.value == pytest.approx(0.11 / (0.055 + 0.002))


def test_a_timing_at_tokens_is_not_that_of_a_budget_in_flops():
    records = [accuracy("unpruned", None), accuracy(), efficiency()]
    assert answer(studies(records)[0])[1].speedup[0] == "1.93×"
    matched = accuracy(cell="fastv@64=64")
    _, best = answer(studies([records[0], matched, records[2]])[0])
    assert (best.budget, best.speedup) == ("64 in FLOPs", ("", ""))


def test_benchmarks_of_different_units_are_summed_up_relative_to_unpruned():
    records = [
        accuracy("unpruned", None, "points", scores=[4.0, 8.0]),
        accuracy("unpruned", None, "share", scores=[1.0, 1.0]),
        accuracy("fastv", 64, "points", scores=[3.0, 6.0]),
        accuracy("fastv", 64, "share", scores=[1.0, 0.0]),
    ]
    whole, best = answer(studies(records)[0])
    assert (whole.score[0], best.score[0], best.difference[0]) == ("100.0", "62.5", "−37.5")
    assert "Mean relative score in percent against counted tokens" in page(records)


def test_headings_go_down_one_level_at_a_time(report):
    headings = lxml_html.fromstring(report.read_text()).xpath("//h1|//h2|//h3|//h4")
    levels = [int(heading.tag[1]) for heading in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_gallery_says_how_many_it_leaves_out(report):
    text = lxml_html.fromstring(report.read_text()).xpath("string(//section[@id='gallery'])")
    assert "20 of 100 questions" in text


@pytest.mark.slow
def test_the_whole_benchmark_is_a_page_of_two_megabytes():
    records = read_records([ROOT / "results/benchmark", FIRST], whole=True)
    assert len(page(records).encode()) < 2_000_000


def test_the_page_holds_everything_and_fetches_nothing(report):
    text = report.read_text()
    tree = lxml_html.fromstring(text)
    assert len(text) < 600_000
    assert not re.search(r'(?:src|href)="https?:', re.sub(r'<a href="https?:', "", text))
    assert not re.search(r"url\((?!#)|@import", text)
    drawn = tree.xpath("//*[local-name()='svg'][@role='img']")
    assert drawn
    assert all(len(svg.get("aria-label")) > 10 for svg in drawn)
    assert "harness compare --methods vitcop,fastv --limit 20" in tree.xpath("string(//pre)")
    ids = tree.xpath("//@id")
    assert set(tree.xpath("//nav/a/@href")) <= {f"#{name}" for name in ids}
    assert next(iter(tree.xpath("//h1|//h2|//h3"))).tag == "h1"


def test_the_page_is_the_same_byte_for_byte(report):
    assert page(read_records([FIRST], whole=True)) == report.read_text()


@pytest.mark.parametrize(
    "records",
    [
        [accuracy()],
        [accuracy(scores=[], ledger=[]), accuracy("unpruned", None, scores=[], ledger=[])],
        [accuracy(scores=[0.0] * 4), accuracy("unpruned", None, scores=[0.0] * 4), efficiency()],
        [without_result("failed", method="fastv", reason="no memory"), efficiency()],
        [accuracy(), {**accuracy(), "identity": {**accuracy()["identity"], "model": "other"}}],
    ],
)
def test_poor_records_give_a_page_all_the_same(records):
    text = page(records)
    assert not re.search(r"\bnan\b", lxml_html.fromstring(text).xpath("string(//main)").lower())
    assert "images are not at hand" in text or "FAILED" in text or "failed" in text


def test_hostile_names_are_text():
    record = accuracy()
    record["method"] = {**record["method"], "label": HOSTILE, "link": "javascript:alert(1)"}
    record["provenance"] = {**record["provenance"], "command": HOSTILE}
    tree = lxml_html.fromstring(page([record]))
    assert len(tree.xpath("//script")) == 1
    assert HOSTILE in tree.xpath("string(//pre)")
    assert not tree.xpath("//a[starts-with(@href, 'javascript')]")


# the command


def test_an_existing_page_is_kept_unless_forced(tmp_path, capsys):
    records_module.write(tmp_path, accuracy())
    output = tmp_path / "report.html"
    command = ["report", str(tmp_path), "-o", str(output)]
    assert main(command) == 0
    assert main(command) == BAD_INPUT
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


def test_without_answers_there_is_no_report(tmp_path, capsys):
    records_module.write(tmp_path, efficiency())
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "r.html")]) == BAD_INPUT
    assert "accuracy" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
