"""The HTML report: what it says, what it shows, and that it works in a browser."""

from __future__ import annotations

import io
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from from_bodies import gallery, page, patches, studies
from lxml import html as lxml_html
from PIL import Image
from synthetic_records import accuracy, efficiency, efficiency_cell, without_result

from harness.cli.app import BAD_INPUT, main
from harness.records import file as records_module
from harness.records.groups import read_records
from harness.records.selections import mask
from harness.tables.page import write_report
from harness.tables.page.answer import answer
from harness.tables.page.images import asked
from harness.tables.page.overlay import overlay, png
from harness.tables.page.plots import pareto
from harness.tables.page.summary import listed

ROOT = Path(__file__).parents[2]
FIRST = ROOT / "results/first"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = '<script>alert("x")</script> a_b&c'


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "report.html"
    write_report(read_records([FIRST], whole=True), output)
    return output


# overlays


def stage(kept, rows, groups=None, layer=None):
    made = {"stage": "s", "layer": layer, "segment": None if layer else 0, "rows": rows}
    made["kept"] = mask(kept, rows)
    return made if groups is None else {**made, "groups": groups}


def test_a_patch_is_followed_from_the_tower_through_every_cut():
    tower = stage([0, 2, 3, 5], 10)  # of CLS and 9 patches: CLS, patches 1, 2 and 4
    found = patches([tower, stage([1, 3], 4, layer=2)], 9)
    assert found.row.tolist() == [-1, 0, -1, -1, 1, -1, -1, -1, -1]
    assert found.lost.tolist() == [0, -1, 1, 0, -1, 0, 0, 0, 0]
    assert found.kept.sum() == 2
    assert not found.merged.any()


def test_patches_of_one_group_are_merged():
    found = patches([stage([0, 2], 4, groups=[0, 0, 1, -1], layer=1)], 4)
    assert found.merged.tolist() == [True, True, False, False]
    assert found.kept.tolist() == [False, False, True, False]


def test_an_anchor_outside_its_group_takes_the_free_row():
    """Row 1 is kept whole and gets the mean of rows 2 and 3 added."""
    found = patches([stage([0, 1], 4, groups=[0, -1, 1, 1], layer=1)], 4)
    assert found.row.tolist() == [0, 1, 1, 1]


def test_dropped_is_dark_kept_is_clear_and_later_drops_are_fainter():
    found = patches([stage([0, 1], 4, layer=1), stage([0], 2, layer=2)], 4)
    alpha = np.asarray(overlay(found))[::2, ::2, 3].ravel()
    assert alpha[0] == 0
    assert 0 < alpha[1] < alpha[2] == alpha[3]


def test_several_images_have_no_overlay():
    assert patches([{**stage([0], 4), "segment": 1}], 4) is None


def test_survivors_are_the_tokens_that_entered_the_last_layer():
    for record in read_records([FIRST], whole=True):
        if record.kind == "accuracy":
            for sample in record.body["samples"][:3]:
                found = patches(sample["selections"], record.image_tokens)
                tokens = len(set(found.row[found.row >= 0].tolist()))
                assert tokens == record.ledger[sample["ledger"]].entering[-1]


def test_an_image_that_is_not_the_measured_one_is_not_shown():
    assert asked("embedded_count", "embedded_count/0", "de2ad0363a41069d").question
    assert asked("embedded_count", "embedded_count/0", "0" * 16) is None
    assert asked("gqa", "gqa/0", "de2ad0363a41069d") is None
    assert asked("embedded_count", "embedded_count/9999", "de2ad0363a41069d") is None


def test_the_gallery_prefers_items_on_which_methods_disagree():
    records = [r for r in read_records([FIRST], whole=True) if r.kind == "accuracy"]
    items, without = gallery(records)
    assert not without
    assert {item.task for item in items} == {r.task for r in records}
    assert sum("64" in item.disagree for item in items) > len(items) / 2


def test_a_picture_of_few_colours_is_small_and_exact():
    found = patches([stage(range(0, 576, 7), 576, layer=1)], 576)
    content = png(overlay(found))
    assert len(content) < 400
    shown = Image.open(io.BytesIO(content)).convert("RGBA")
    assert np.array_equal(np.asarray(shown), np.asarray(overlay(found)))
    noise = np.random.default_rng(0).integers(256, size=(40, 40, 4), dtype=np.uint8)
    many = Image.fromarray(noise)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(many)))), np.asarray(many))


def test_questions_without_scores_of_their_own_are_shown_all_the_same():
    records = [r for r in read_records([FIRST], whole=True) if r.kind == "accuracy"]
    bodies = [unscored(record.body) for record in records if record.task == "embedded_count"]
    items, without = gallery(bodies)
    assert items
    assert not without
    assert {shown.verdict for item in items for shown in item.shown} == {"no score of its own"}
    assert "no score of its own" in page(bodies)


def unscored(body):
    """The record of a task whose score is no mean of its questions'."""
    samples = [{**sample, "score": None} for sample in body["samples"]]
    score = {"value": 0.5, "per_question": None, "why": None, "without": [0.4, 0.5, 0.6]}
    return {**body, "samples": samples, "metric": "f1", "metrics": {"f1": score}}


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


# the browser


@pytest.fixture
def browser_page(report):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        said = []
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
        opened.goto(report.as_uri())
        yield opened
        assert said == []
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_the_table_sorts_and_the_gallery_filters(browser_page):
    opened = browser_page
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    header = opened.locator("table.sortable").first.locator("thead button", has_text="digits")
    block = opened.locator("table.sortable").first.locator("tbody").nth(3)
    column = header.evaluate("b => b.parentNode.cellIndex")

    def digits():
        rows = block.locator("tr:not(:has(.heading))")
        cells = [rows.nth(i).locator("th,td").nth(column) for i in range(rows.count())]
        texts = [cell.inner_text() for cell in cells]
        return [float(text.split()[0]) for text in texts]

    header.focus()
    opened.keyboard.press("Enter")
    assert digits() == sorted(digits(), reverse=True)
    falling = digits()
    opened.keyboard.press("Enter")
    assert digits() == falling[::-1] != falling
    assert block.locator("tr").first.locator(".heading").count() == 1
    every = opened.locator(".item:visible").count()
    opened.get_by_label("methods disagree").check()
    divided = opened.locator(".item:visible").count()
    assert 0 < divided < every
    assert opened.locator(".filters output").inner_text() == f"{divided} of {every} questions"
    opened.get_by_label("Benchmark").select_option("embedded_digits")
    assert set(opened.locator(".item:visible").evaluate_all("x => x.map(i => i.dataset.task)")) == {
        "embedded_digits"
    }
    opened.get_by_label("methods disagree").uncheck()
    opened.get_by_label("Budget").select_option("192")
    shots = opened.locator(".shot:visible[data-budget]")
    assert set(shots.evaluate_all("x => x.map(s => s.dataset.budget)")) == {"192"}
    overlay_box = shots.first.locator("svg").bounding_box()
    assert overlay_box["width"] == overlay_box["height"] > 80


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_the_answer_and_both_figures_are_on_the_first_screen(browser_page):
    browser_page.set_viewport_size({"width": 1280, "height": 800})
    shown = browser_page.locator("section.lead").first.locator("table.best, .pair figure")
    boxes = [shown.nth(i).bounding_box() for i in range(shown.count())]
    assert len(boxes) == 3
    assert all(box["y"] + box["height"] <= 800 for box in boxes)
    assert boxes[1]["y"] == boxes[2]["y"]
