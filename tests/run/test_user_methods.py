"""Methods of a user's own file that are wrong: one sentence each, and nothing measured is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from shapes import LLAVA_7B, ONE_IMAGE

from baselines.uniform import Uniform
from harness.cli.app import main
from harness.errors import cause
from methods import Budget, PruningError, attach
from methods.flops import selection_flops
from methods.registry import load_method

SOUND = """
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch

from methods.interface import *
from methods.interface import Cut, DecoderStage, Method, NewTokens, Plan, Read, Selection


@dataclass(frozen=True)
class Mine(Method):
    label: ClassVar[str] = "Mine"
    cuts: ClassVar[str] = "before layer 0"

    def solve(self, budget, sizes):
        tokens = int(budget)
        stage = DecoderStage("first", 0, (Read.HIDDEN,), partial(select, tokens=tokens))
        return Plan((tokens,) * sizes.layers, decoder=(stage,))


def select(view, tokens):
    kept = torch.arange(tokens, device=view.segments.device)
    return Selection(Cut(kept.expand(len(view.segments), -1)))
"""
LABEL = '    label: ClassVar[str] = "Mine"\n'
SOLVE = "    def solve(self, budget, sizes):\n"
RETURN = "        return Plan((tokens,) * sizes.layers, decoder=(stage,))\n"
SELECT = "def select(view, tokens):\n"


def written(tmp_path: Path, old: str = "", new: str = "") -> Path:
    """The sound method with one thing changed."""
    assert SOUND.count(old) == 1 or not old
    file = tmp_path / "mine.py"
    content = SOUND.replace(old, new) if old else SOUND
    file.write_text(f"# {tmp_path}: a module is imported once for its contents\n{content}")
    return file


def refused(file: Path) -> str:
    with pytest.raises(PruningError) as caught:
        load_method(file, "Mine")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(file) in sentence
    return sentence


# what is wrong with the class itself: what is replaced, by what, and the sentence
CLASSES = {
    "sys.exit at import": (
        LABEL,
        LABEL + "    sys.exit(3)\n",
        r"import: SystemExit: 3 \(.*line 1",
    ),
    "an error at import": (
        LABEL,
        LABEL + "    1 / 0\n",
        "import: ZeroDivisionError: .*line 1",
    ),
    "no Python": (LABEL, "  !\n", "does not import: .*Error"),
    "not frozen": (
        "@dataclass(frozen=True)\n",
        "@dataclass\n",
        "not import: TypeError: .*frozen",
    ),
    "no dataclass": ("@dataclass(frozen=True)\n", "", "Mine is no dataclass: write @dataclass"),
    "no solve": (SOLVE, "    def solved(self, budget, sizes):\n", "Mine has no method solve"),
    "raises when made": (
        SOLVE,
        "    def __post_init__(self):\n        raise OSError('no disk\\nat all')\n\n" + SOLVE,
        r"Mine cannot be made: OSError: no disk at all \(.*mine.py, line \d+\)",
    ),
    "sys.exit when made": (
        SOLVE,
        "    def __post_init__(self):\n        sys.exit('bye')\n\n" + SOLVE,
        "Mine cannot be made: SystemExit: bye",
    ),
    "a setting without a default": (
        SOLVE,
        "    layer: int\n\n" + SOLVE,
        "Mine needs its setting layer: Mine:layer=VALUE",
    ),
    "a list among the settings": (
        SOLVE,
        "    layers: list = field(default_factory=list)\n\n" + SOLVE,
        "Mine has a setting that is no plain value, .*unhashable type: 'list'",
    ),
    "a lock among the settings": (
        SOLVE,
        "    lock: object = field(default_factory=__import__('threading').Lock)\n\n" + SOLVE,
        "Mine has a setting that is no plain value, .*pickle",
    ),
    "a label that is no string": (LABEL, "    label = 7\n", "Mine: label is a string, not 7"),
    "a label that is none": (LABEL, "    label = None\n", "Mine: label is a string, not None"),
    "a label that is a setting": (
        LABEL,
        '    label: str = "Mine"\n',
        "a setting cannot be called label, which every method has; annotate it as ClassVar",
    ),
    "a setting called name": (SOLVE, "    name: int = 1\n\n" + SOLVE, "cannot be called name"),
    "a setting called plan": (SOLVE, "    plan: int = 1\n\n" + SOLVE, "cannot be called plan"),
    "a venue that is no string": (
        LABEL,
        LABEL + "    venue = 2024\n",
        "venue is a string, not 2",
    ),
    "tower reads that are none": (LABEL, LABEL + "    tower_reads = 'keys'\n", "tuple of Read"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_class_that_is_no_method_is_refused_before_any_work(tmp_path, capsys, case):
    old, new, sentence = CLASSES[case]
    file = written(tmp_path, old, new)
    assert re.search(sentence, refused(file))
    ended = main(["compare", "--methods", f"{file}:Mine", "--output", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert (ended, told.out, told.err.count("\n")) == (2, "", 1)
    assert str(file) in told.err
    assert not (tmp_path / "out").exists()


def test_the_sound_class_passes(tmp_path, model, prompts):
    method = load_method(written(tmp_path), "Mine")
    with attach(model, method, Budget(8)) as trace, torch.no_grad():
        model(**prompts.batch(0))
    assert trace.prefills[-1].entering.tolist() == [[8] * 8]


@pytest.mark.parametrize("setting", ["name", "file", "self"])
def test_a_setting_may_be_called_what_a_loader_calls_its_arguments(tmp_path, setting):
    with pytest.raises(PruningError, match=f"Mine has no setting '{setting}'; it has no settings"):
        load_method(written(tmp_path), "Mine", **{setting: 1})


def test_a_setting_of_another_type_is_told_by_the_types_name(tmp_path):
    file = written(tmp_path, SOLVE, "    layer: int = 2\n\n" + SOLVE)
    assert load_method(file, "Mine", layer="3").layer == 3
    with pytest.raises(PruningError, match=r"mine.py: Mine: layer is int, such as 2, not 'two'"):
        load_method(file, "Mine", layer="two")


def test_a_method_that_extends_a_shipped_one_has_its_own_name(tmp_path):
    base = "from baselines.fastv import FastV\n\n\n@dataclass(frozen=True)\nclass Mine(FastV):"
    file = written(tmp_path, "@dataclass(frozen=True)\nclass Mine(Method):", base)
    assert load_method(file, "Mine").name == "Mine"


# what `solve` makes: the sentence follows the class and its file
PLANS = {
    "raise KeyError('x')": r"raises KeyError: 'x' \(.*mine.py, line \d+\)",
    "sys.exit(0)": "raises SystemExit: 0",
    "return 7": "it is a int, and neither a Plan nor None",
    "return Plan(5)": "entering is a tuple of ints, not 5",
    "return Plan((8,))": r"entering has 1 numbers for \d+ layers",
    "return Plan((8.0,) * sizes.layers)": "entering is a tuple of ints",
    "return Plan((None,) * sizes.layers)": "entering is a tuple of ints",
    "return Plan((True,) * sizes.layers)": "entering is a tuple of ints",
    "return Plan(torch.ones(sizes.layers))": "entering is a tuple of ints, not tensor",
    "return Plan((-1,) * sizes.layers)": r"entering is 1 to \d+ tokens a layer, not -1",
    "return Plan((0,) * sizes.layers)": r"entering is 1 to \d+ tokens a layer, not 0",
    "return Plan((10**9,) * sizes.layers)": r"entering is 1 to \d+ tokens a layer, not 10",
    "return Plan((5, 6, *(5,) * (sizes.layers - 2)))": "entering rises from 5 to 6",
    "return Plan((8,) * sizes.layers, decoder=[stage])": "decoder is a tuple of DecoderStage",
    "return Plan((8,) * sizes.layers, decoder=(7,))": "decoder is a tuple of DecoderStage",
    "return Plan((8,) * sizes.layers, encoder=(stage,))": "encoder is a tuple of EncoderStage",
    "return Plan((8,) * sizes.layers, encoder=(EncoderStage('e', (), select),) * 9)": (
        "encoder has 9 stages for 1 images"
    ),
    "return Plan((8,) * sizes.layers, decoder=(DecoderStage('d', 0, (), None),))": (
        "stage d has no select to call"
    ),
    "return Plan((8,) * sizes.layers, decoder=(DecoderStage('d', 0, ('keyz',), select),))": (
        "or reads what is no Read"
    ),
    "return Plan((8,) * sizes.layers, decoder=(DecoderStage('d', 0, 5, select),))": "raises TypeE",
    "return Plan((8,) * sizes.layers, new_tokens='later')": "new_tokens is one of NewTokens",
    "return Plan((8,) * sizes.layers, parameters={'a': float('nan')})": "parameters cannot be writ",
    "return Plan((8,) * sizes.layers, parameters={'a': torch.ones(2)})": "parameters cannot be wri",
    "return Plan((8,) * sizes.layers, parameters=5)": "parameters cannot be written to a record",
}


@pytest.mark.parametrize("code", PLANS)
def test_what_is_no_plan_is_refused_with_class_and_file(tmp_path, model, prompts, code):
    file = written(tmp_path, RETURN, f"        {code}\n")
    method = load_method(file, "Mine")
    sentence = f"{re.escape(str(file))}: Mine.solve for 8 of 64 tokens .*{PLANS[code]}"
    with pytest.raises(PruningError, match=sentence), attach(model, method, Budget(8)):
        model(**prompts.batch(0))
    assert not hasattr(model, "_visual_token_pruning")


@pytest.mark.parametrize("code", ["raise KeyError('x')", "sys.exit(0)", "return Plan((8,))"])
@pytest.mark.parametrize("match", ["tokens", "flops"])
def test_the_command_line_finds_it_before_any_work(tmp_path, capsys, code, match):
    file = written(tmp_path, RETURN, f"        {code}\n")
    assert compared(file, tmp_path / "out", "--match", match) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{file}: Mine.solve for " in told.err
    assert not (tmp_path / "out").exists()


def compared(file: Path, output: Path, *options: str) -> int:
    """Exit status of a comparison of the user's method, unpruned beside it."""
    asked = ["--methods", f"{file}:Mine", "--budgets", "64", "--repeats", "1", "--no-accuracy"]
    small = ["--model", "random:tiny", "--device", "cpu", "--output", str(output)]
    return main(["compare", *asked, *small, *options])


# what `select` does at work
STAGES = {
    "raise KeyError('x')": r"KeyError: 'x'; in Mine, stage first before layer 0 \(.*mine.py, line",
    "sys.exit(0)": r"Mine, stage first before layer 0 raises SystemExit: 0 \(.*mine.py, line",
    "return None": "Mine, stage first before layer 0 returns a Selection, not None",
    "return Selection(7)": "Mine, stage first before layer 0: a cut is a Cut or None, not 7",
    "return Selection(Cut([[0]]))": r"layer 0: anchors is a tensor, not \[\[0\]\]",
    "return Selection(visual={'a': 1})": "layer 0: a is a tensor, not 1",
}


@pytest.mark.parametrize("code", STAGES)
def test_what_a_stage_does_wrong_is_told_with_stage_and_line(tmp_path, model, prompts, code):
    method = load_method(written(tmp_path, SELECT, f"{SELECT}    {code}\n"), "Mine")
    with pytest.raises(Exception) as caught, attach(model, method, Budget(8)):  # noqa: PT011
        model(**prompts.batch(0))
    assert re.search(STAGES[code], cause(caught.value))


def test_a_stage_that_calls_sys_exit_fails_its_cell_and_the_others_go_on(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("harness.efficiency.rounds.MOST_WARMUPS", 1)
    file, output = written(tmp_path, SELECT, f"{SELECT}    sys.exit(0)\n"), tmp_path / "out"
    asked = ["--methods", f"{file}:Mine", "--budgets", "64", "--repeats", "1", "--batch-size", "1"]
    small = ["--model", "random:tiny", "--device", "cpu", "--new-tokens", "2"]
    assert main(["efficiency", *asked, *small, "--output", str(output)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(STAGES["sys.exit(0)"], told)
    assert "Traceback" not in told
    table = (output / "efficiency-batch-1.csv").read_text().splitlines()
    assert ["FAILED" in row for row in table if row.startswith(("Unpruned", "Mine"))] == [0, 1]


MERGING = """
    groups = torch.zeros(len(view.segments), view.count, dtype=torch.long)
    added = torch.zeros(len(view.segments), 1, dtype=torch.bool{device})
    return Selection(Cut(torch.zeros_like(view.segments[:, :1]), groups{to}, added))
"""


def test_a_merging_stage_that_forgets_the_device_is_told_where_it_belongs(tmp_path):
    def flops(body: str) -> int:
        method = load_method(written(tmp_path, SELECT, SELECT + body), "Mine")
        return selection_flops(method.plan(Budget(64), ONE_IMAGE), ONE_IMAGE, LLAVA_7B, 40)

    here = "view.segments.device"
    assert flops(MERGING.format(device=f", device={here}", to=f".to({here})")) > 0
    sentence = "layer 0: groups is on cpu and the view on meta; make tensors with device=view.segm"
    with pytest.raises(PruningError, match=f"stage first before {sentence}"):
        flops(MERGING.format(device="", to=""))


def test_flops_are_matched_with_the_class_named(tmp_path, capsys):
    file = written(tmp_path, SELECT, SELECT + MERGING.format(device="", to=""))
    assert compared(file, tmp_path / "out", "--match", "flops") == 2
    assert f"{file}: Mine: stage first before layer 0: groups is on cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "budget", "sentence"),
    [
        (lambda method: type(method), Budget(8), "a method is an instance, such as get_method"),
        (lambda method: "fastv", Budget(8), "a method is an instance, .* not 'fastv'"),
        (lambda method: method, 8, r"a budget is Budget\(tokens\) or Budget\(.*not 8"),
    ],
)
def test_attach_says_what_it_takes(tmp_path, model, method, budget, sentence):
    sound = load_method(written(tmp_path), "Mine")
    with pytest.raises(PruningError, match=sentence), attach(model, method(sound), budget):
        pytest.fail("it was attached")


def test_an_unhashable_setting_is_refused_by_attach_too(tmp_path, model):
    @dataclass(frozen=True)
    class Listed(Uniform):
        layers: list = field(default_factory=list)

    with (
        pytest.raises(PruningError, match="Listed has a setting that is no plain value"),
        attach(model, Listed(), Budget(8)),
    ):
        pytest.fail("it was attached")
