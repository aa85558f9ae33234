"""The report's figures and the README's: told apart by every reader, and true to the records."""

from __future__ import annotations

import re

import numpy as np
import pytest
from from_bodies import page, studies
from lxml import etree as lxml_etree
from lxml import html as lxml_html
from readme_blocks import FIGURES, ROOT
from synthetic_records import accuracy

from harness.tables.page.drawing import STYLE_SHEET, light_colours
from harness.tables.page.labels import spread
from harness.tables.page.plots import accuracy_by_method, limits_of
from harness.tables.page.series import COLOURS, colour, dash, marker, swatch

TASKS = {"easy": [1.0, 1.0, 1.0], "hard": [0.0, 0.0, 0.0, 1.0]}


def luminance(shade):
    channels = np.array([int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def themes():
    """The style sheet's variables, in light and in dark."""
    blocks = STYLE_SHEET.read_text().split("}")[:2]
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks)
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_text_stand_out(theme):
    colours = themes()[theme]
    assert light_colours() == themes()["light"]
    for index in range(COLOURS):
        assert contrast(colours[f"s{index}"], colours["card"]) >= 3, index
    for ink in ("text", "soft", "accent", "right", "wrong"):
        for ground in ("card", "page"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["text"], colours["bold"]) >= 4.5
    assert contrast("#777777", "#ffffff") < 4.5 < contrast("#767676", "#ffffff")


# Machado, Oliveira and Fernandes 2009, at full severity; linear RGB
EYES = {
    "usual": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_CONES = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
TO_OKLAB = np.array(
    [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
)


def seen(shades, eye):
    """OKLab, where equal distances look equally far apart: float64 [colours, 3]."""
    channels = np.array([[int(s[i : i + 2], 16) / 255 for i in (1, 3, 5)] for s in shades])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    shown = np.clip(linear @ np.array(EYES[eye]).T, 0, 1)
    return np.cbrt(shown @ TO_CONES.T) @ TO_OKLAB.T


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_two_of_the_colours_look_alike(theme, eye):
    points = seen([themes()[theme][f"s{i}"] for i in range(COLOURS)], eye)
    apart = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(COLOURS, 1)]
    assert apart.min() > 0.055
    first, second = seen(["#0072b2", "#0072b8"], eye)
    assert np.linalg.norm(first - second) < 0.02


def test_no_two_series_share_colour_and_marker():
    assert len({colour(i) for i in range(COLOURS)}) == COLOURS >= 12
    assert len({marker(i) for i in range(COLOURS)}) == COLOURS
    assert len({(colour(i), marker(i)) for i in range(3 * COLOURS)}) == 3 * COLOURS
    assert len({str(dash(i)) for i in range(0, 3 * COLOURS, COLOURS)}) == 3
    assert len({swatch(i) for i in range(3 * COLOURS)}) == 3 * COLOURS


def test_fourteen_methods_have_fourteen_entries_in_the_legend():
    identity = accuracy()["identity"]
    methods = [
        accuracy(f"fastv:layer={n}", identity={**identity, "settings": {"layer": n}})
        for n in range(1, 15)
    ]
    tree = lxml_html.fromstring(page([accuracy("unpruned", None), *methods]))
    entries = tree.xpath("//*[@class='legend']/li")
    drawn = [lxml_html.tostring(e.find("svg"), with_tail=False) for e in entries]
    assert len(set(drawn)) == len(drawn) == 15
    assert "layer=1" in entries[0].text_content()


def test_labels_are_moved_as_little_as_it_takes():
    assert spread([9, 5, 1], 2) == [9, 5, 1]
    assert spread([5, 5], 2) == [6, 4]
    assert spread([9, 5, 5, 5, 1], 1) == [9, 6, 5, 4, 1]
    assert spread([], 1) == []


def test_the_small_figures_have_one_range_that_holds_all():
    found = studies([accuracy(task=task, scores=s) for task, s in TASKS.items()])[0]
    low, high = limits_of(found, list(TASKS))
    assert low < 0 < 100 < high


def test_of_one_budget_the_methods_are_ranked_by_score():
    records = [
        accuracy("unpruned", None),
        accuracy("fastv", scores=[1.0, 0.0, 0.0, 0.0]),
        accuracy("vitcop", scores=[1.0, 1.0, 1.0, 0.0]),
        accuracy("random", scores=[1.0, 1.0, 0.0, 0.0]),
    ]
    (found,) = studies(records)
    names = [e.text for e in lxml_etree.fromstring(accuracy_by_method(found)).iter("text")]
    assert [name for name in names if name in found.labels.values()] == [
        "ViTCoP",
        "Random",
        "FastV",
    ]
    assert "Accuracy by method" in page(records)
    assert "Accuracy by method" not in page([*records, accuracy("fastv", 32)])


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_the_records(name):
    """What they say, and the names in them; how that is drawn may differ between matplotlibs."""
    kept, drawn = ((ROOT / name).read_text(), FIGURES[name]())
    for text in (kept, drawn):
        assert "var(--" not in text
        assert text.startswith("<svg ")
        assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert described(kept) == described(drawn)
    altered = drawn.replace("ViTCoP at 64 73.1", "ViTCoP at 64 93.1")
    assert described(altered) != described(drawn)


def described(svg):
    tree = lxml_etree.fromstring(svg.encode())
    return [e.text for e in tree.iter("{*}title", "{*}desc", "{*}text")]
