"""Stages of one's own inside the vision tower, and those that are refused."""

from __future__ import annotations

from dataclasses import dataclass

import contract
import pytest
import torch

from methods import Cut, Method, Plan, PruningError, Selection
from methods.interface import EncoderStage, Read, TowerStage


@dataclass(frozen=True)
class Inside(Method):
    """Keeps CLS and the first 8 patches after the first tower layer."""

    reads: tuple = ()
    select: object = None
    layer: int = 0
    encoder: tuple = ()
    name = label = "inside"
    inside_tower = True

    def solve(self, budget, sizes):
        tower = (TowerStage("own", self.layer, self.reads, self.select or first_nine),)
        images = len(sizes.segments)
        return Plan(
            (8 * images,) * sizes.layers, tower=(tower,) * images, encoder=self.encoder * images
        )


def first_nine(view):
    return Selection(Cut(torch.arange(9).expand(len(view.segments), -1)))


def test_a_stage_of_ones_own(model, prompts):
    _, trace = contract.generate(model, prompts.batch(0, 1, 2, 3), Inside())
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert prefill.selections[0].cut.anchors[0].tolist() == list(range(1, 9))
    assert prefill.tower_rows[2] == (((65, 65), (9, 9), (9, 9)),) * 2


def test_a_method_that_does_not_say_where_it_cuts_is_refused(model, prompts):
    class Silent(Inside):
        inside_tower = False

    with pytest.raises(PruningError, match="such a method sets inside_tower = True"):
        contract.generate(model, prompts.batch(0), Silent())


def weighing(view):
    anchors = torch.arange(9).expand(len(view.segments), -1)
    weights = torch.ones(*anchors.shape, view.count)
    return Selection(Cut(anchors, None, torch.zeros_like(anchors, dtype=torch.bool), weights))


def keeping(*rows, count=None):
    def select(view):
        batch = len(view.segments)
        counts = None if count is None else torch.tensor([count] * batch)
        return Selection(Cut(torch.tensor([rows] * batch), counts=counts))

    return select


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (
            Inside(select=keeping(0, 65)),
            "layer 0 of the vision tower: an index lies outside 0 to 64",
        ),
        (Inside(select=keeping(1, 0)), "layer 0 of the vision tower: CLS, row 0, has to stay"),
        (Inside(select=keeping(0)), "at least one patch has to stay"),
        (Inside(select=keeping(0, 1, count=1)), "at least one patch has to stay"),
        (Inside(select=keeping(0, 1, count=3)), "3 rows shall stay, but 2 are named"),
        (Inside(reads=(Read.HIDDEN,), select=weighing), "merged by groups, not by weights"),
        (Inside(layer=2), "layer 2 of the vision tower: allowed are layers 0 to 1"),
        (
            Inside(encoder=(EncoderStage("late", (), keeping(0)),)),
            "stages inside the vision tower and after it do not go together",
        ),
    ],
)
def test_stages_that_cannot_run_are_refused(model, prompts, method, sentence):
    with pytest.raises(PruningError, match=sentence):
        contract.generate(model, prompts.batch(0), method)
