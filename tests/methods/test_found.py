"""Methods and families of models are found by lying in a folder, or by being registered."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import contract
import pytest
import torch
from small_models import small_llava
from tiny_families import FAMILIES
from torch import Tensor
from transformers import LlavaForConditionalGeneration

import baselines
from methods import Budget, PruningError, adapters, attach, get_method, methods, registry
from methods.adapters import adapter_for, supported
from methods.adapters.llava import LlavaAdapter
from methods.family import ADAPTERS, adapter
from methods.tower_family import TowerAdapter

METHOD = """
from dataclasses import dataclass
from typing import ClassVar
from methods import Method, Plan, register

@register("newest")
@dataclass(frozen=True)
class Newest(Method):
    label: ClassVar[str] = "Newest"
    link: ClassVar[str] = "https://arxiv.org/abs/9912.00001"

    def solve(self, budget, sizes):
        return None
"""
FAMILY = """
from methods.adapters.llava import LlavaAdapter
from methods.family import adapter

@adapter("LlavaOfAnotherFile")
class Another(LlavaAdapter): ...
"""


class Renamed(LlavaForConditionalGeneration):
    """A model class that no file of the package knows."""


@pytest.fixture
def renamed() -> Renamed:
    model = small_llava()
    model.__class__ = Renamed
    return model


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a file where a package's files are looked for, for the length of a test."""

    def put(package, name: str, code: str) -> None:
        (tmp_path / name).write_text(code)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])

    with patch.dict(ADAPTERS), patch.dict(registry._METHODS), patch.dict(sys.modules):
        yield put
    adapters._look_into_the_folder.cache_clear()


def test_a_method_is_found_by_its_file_and_comes_after_older_papers(beside):
    before = list(methods())
    beside(baselines, "newest.py", METHOD)
    controls = before.index("downsample")
    assert list(methods()) == [*before[:controls], "newest", *before[controls:]]


def test_a_family_is_found_by_its_file(beside):
    before = supported()
    beside(adapters, "another.py", FAMILY)
    adapters._look_into_the_folder.cache_clear()
    assert supported() == (*before, "LlavaOfAnotherFile")


def test_a_family_whose_costs_are_not_computed_says_so():
    model, _ = FAMILIES["llava_next"]()
    with pytest.raises(PruningError, match=r"what a LlavaNextFor.* costs is not computed yet"):
        adapter_for(model).shape()
    with pytest.raises(PruningError, match="how many tokens an image has in a LlavaNextFor"):
        adapter_for(model).sizes(576)


def test_a_family_that_cannot_be_pruned_is_refused_with_the_reason(renamed):
    renamed.__class__ = type("Gemma3ForConditionalGeneration", (Renamed,), {})
    with pytest.raises(PruningError, match=r"Gemma3.* cannot be pruned: its image tokens see one"):
        attach(renamed, get_method("fastv"), Budget(20)).__enter__()


def test_a_family_from_outside_the_package_is_used_and_gone_again(renamed, model, prompts):
    asked: list[Tensor] = []
    with patch.dict(ADAPTERS):

        @adapter("Renamed")
        class Outside(LlavaAdapter):
            def kinds(self, input_ids: Tensor) -> Tensor:
                asked.append(input_ids)
                return super().kinds(input_ids)

        assert isinstance(adapter_for(renamed), Outside)
        found, _ = contract.generate(renamed, prompts.batch(0), get_method("vitcop"))
    expected, _ = contract.generate(model, prompts.batch(0), get_method("vitcop"))
    assert asked
    assert torch.equal(contract.logits(found), contract.logits(expected))
    with pytest.raises(PruningError, match=r"class Renamed is not supported; allowed: .*LlavaForC"):
        attach(renamed, get_method("vitcop"), Budget(20)).__enter__()


def test_a_model_class_has_one_adapter():
    with pytest.raises(PruningError, match="'LlavaForConditionalGeneration' has an adapter"):
        adapter("LlavaForConditionalGeneration")(LlavaAdapter)


def test_an_adapter_that_owes_something_cannot_be_made(model):
    class WithoutTower(LlavaAdapter):
        tower_layers = TowerAdapter.tower_layers

    with pytest.raises(TypeError, match="tower_layers"):
        WithoutTower(model)
