"""The page that says how to add a method is run as it stands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from unittest.mock import patch

import pytest
import torch
from forbidden_keys import generated, pruned
from tiny_families import FAMILIES

from harness.analysis.metrics import METRICS
from harness.cli.app import main
from harness.efficiency.trackers import TRACKERS, gathered
from harness.tables.layouts import LAYOUTS, WRITERS
from methods import Budget, PruningError, attach, get_method, registry
from methods.adapters import adapter_for
from methods.family import ADAPTERS
from methods.registry import load_method

ROOT = Path(__file__).parent.parent
PAGE, FIRST = ROOT / "CONTRIBUTING.md", str(ROOT / "results/first")


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The page's example, in a file of its own outside the repository."""
    # what it registers is gone again after the test
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file = tmp_path / "my_method.py"
    file.write_text(code)
    return file


def test_the_example_method_keeps_the_longest_embeddings(example, model, prompts):
    method = load_method(example, "NormPrune")
    with attach(model, method, Budget(20)) as trace, torch.no_grad():
        model(**prompts.batch(0, 3))
    prefill = trace.prefills[-1]
    assert prefill.entering.tolist() == [[20] * 8, [0] * 8]
    features = model.get_image_features(prompts.pixels[0]).pooler_output[0]
    longest = features.norm(dim=-1).topk(20).indices.sort().values
    assert prefill.selections[0].cut.anchors[0].tolist() == longest.tolist()


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        ("x = 1", "NormPrune", "has no method 'NormPrune'; it has no subclass"),
        ("from methods import Method\nclass A(Method):\n    ...", "A", "A has no method solve"),
        ("import nothing_here", "A", "does not import: ModuleNotFoundError"),
        (None, "A", "there is no file"),
        ("example", "NormPrun", "has no method 'NormPrun'; did you mean 'NormPrune'"),
    ],
)
def test_a_file_that_holds_no_such_method_is_refused(example, tmp_path, content, name, sentence):
    file = tmp_path / "other.py"
    if content is not None:
        file.write_text(example.read_text() if content == "example" else content)
    with pytest.raises(PruningError, match=sentence):
        load_method(file, name)


def test_the_example_family_is_pruned_as_its_own_file_has_it(tmp_path):
    (code,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    model, inputs = FAMILIES["smolvlm"]()
    fastv = get_method("fastv")
    (expected, _), by_file = pruned(generated, fastv, model, inputs)
    with patch.dict(ADAPTERS):
        del ADAPTERS["SmolVLMForConditionalGeneration"]
        (tmp_path / "example.py").write_text(code)
        run_path(str(tmp_path / "example.py"), run_name="example")
        assert type(adapter_for(model)).__module__ == "example"
        (found, _), by_example = pruned(generated, fastv, model, inputs)
    assert torch.equal(found, expected)
    # the example says nothing of its tower's layers
    sizes = zip(by_example.prefills[-1].sizes, by_file.prefills[-1].sizes, strict=True)
    for own, expected in sizes:
        assert replace(own, feature_layer=expected.feature_layer) == expected


def block(kind: str) -> str:
    (code,) = re.findall(rf"```py {kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return code


@pytest.fixture
def outside(tmp_path):
    """Runs an example of the page; what it registers is gone again after the test."""
    gathered(lambda each: {})  # those of the package are found once, and would be gone again
    with patch.dict(METRICS), patch.dict(LAYOUTS), patch.dict(WRITERS), patch.dict(TRACKERS):

        def run(kind: str) -> None:
            file = tmp_path / f"{kind}.py"
            file.write_text(block(kind))
            run_path(str(file))

        yield run


def test_the_example_metric_is_in_the_papers_table(outside, capsys):
    outside("metric")
    assert main(["table", FIRST, "--layout", "paper", "--fidelity", "--format", "csv"]) == 0
    assert "shorter" in capsys.readouterr().out.splitlines()[0].split(",")


def test_the_example_layout_is_written_in_the_example_form(outside, capsys):
    outside("table")
    assert main(["table", FIRST, "--layout", "lead", "--format", "words"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["Unpruned 576", "FastV 192"]


def test_the_example_tracker_tells_of_the_run(outside):
    outside("tracker")
    found = gathered(lambda each: each.after(None) if type(each).__name__ == "LoadAverage" else {})
    assert found.keys() == {"load_average"}
