"""Methods and runtimes that are wrong on purpose: each is caught, most by name, stage and layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import contract
import pytest
import torch

from methods import (
    Budget,
    Cut,
    DecoderStage,
    EncoderStage,
    Method,
    Plan,
    PruningError,
    Selection,
    attach,
    get_method,
    views,
)
from methods.attention import QueriesKeys
from methods.interface import Read
from methods.tensors import best_in_order

BUDGET = Budget(8)


@dataclass(frozen=True)
class Planted(Method):
    """Promises 8 tokens from layer 2 on; its stage does what it is given to do."""

    select: Callable
    reads: tuple[Read, ...] = ()
    name = label = "planted"

    def solve(self, budget, sizes):
        entering = (sizes.tokens,) * 2 + (8,) * (sizes.layers - 2)
        return Plan(entering, decoder=(DecoderStage("cut", 2, self.reads, self.select),))


def keeping(*rows):
    return lambda view: Selection(Cut(torch.tensor([rows] * len(view.segments))))


def prefill_of(model, prompts, method):
    with attach(model, method, BUDGET) as trace, torch.no_grad():
        model(**prompts.batch(0, 1))
    return trace.prefills[-1]


def test_the_plan_kept_passes(model, prompts):
    prefill = prefill_of(model, prompts, Planted(keeping(*range(8))))
    assert torch.equal(prefill.entering, prefill.planned)


@pytest.mark.parametrize(
    "select",
    [keeping(*range(9)), keeping(*range(7)), lambda view: Selection()],
    ids=["one too many", "one too few", "never applied"],
)
def test_a_broken_promise_is_counted(model, prompts, select):
    prefill = prefill_of(model, prompts, Planted(select))
    assert not torch.equal(prefill.entering, prefill.planned)
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])


def best(view):
    """What a sound method selects, to be spoilt by one thing at a time."""
    scores = view[Read.LAST_ATTENTION].mean(1)
    return Selection(Cut(best_in_order(scores, 8)))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_the_sound_method_passes(model, prompts, check):
    check(Planted(best, (Read.LAST_ATTENTION,)), model, prompts)


@pytest.mark.parametrize(
    ("select", "check"),
    [
        (keeping(*range(9)), contract.counts_are_the_plans),
        (lambda view: Selection(), contract.counts_are_the_plans),
        (lambda view: Selection(), contract.long_texts_are_no_surprise),
    ],
    ids=["keeps one too many", "never applied", "never applied to a long text"],
)
def test_the_contract_counts(model, prompts, select, check):
    with pytest.raises(AssertionError):
        check(Planted(select), model, prompts)


def test_the_contract_finds_a_hook_that_is_left(model, prompts):
    handles = []

    def leaking(view):
        handles.append(model.lm_head.register_forward_hook(lambda *_: None))
        return keeping(*range(8))(view)

    with pytest.raises(AssertionError):
        contract.nothing_is_left_in_the_model(Planted(leaking), model, prompts)
    for handle in handles:
        handle.remove()


def test_the_contract_finds_a_state_that_is_carried_over(model, prompts):
    calls = []

    def wandering(view):
        calls.append(view)
        return keeping(*(row + len(calls) % 3 for row in range(8)))(view)

    with pytest.raises(AssertionError):
        contract.the_same_again(Planted(wandering), model, prompts)


def test_the_contract_finds_keys_of_future_and_padding_tokens(model, prompts, monkeypatch):
    """Attention over all of the padded sequence instead of what each row may see."""
    masked = QueriesKeys.attention
    monkeypatch.setattr(QueriesKeys, "attention", lambda own, rows, _: masked(own, rows, None))
    with pytest.raises(AssertionError):
        contract.a_batch_gives_what_singles_give(get_method("sparsevlm"), model, prompts)


def test_the_contract_finds_a_padding_token_that_is_kept(model, prompts, monkeypatch):
    """The places of visual rows are off: rows before the image are kept, and padding."""
    found = views.first_true
    monkeypatch.setattr(views, "first_true", lambda flags, n: (found(flags, n) - 20).clamp(min=0))
    with pytest.raises((AssertionError, RuntimeError, PruningError)):
        contract.a_batch_gives_what_singles_give(Planted(keeping(*range(8))), model, prompts)


@pytest.mark.parametrize(
    ("select", "sentence"),
    [
        (keeping(0, 1, 1), "a row is kept twice"),
        (keeping(0, 64), "an index lies outside 0 to 63"),
        (keeping(-1, 3), "an index lies outside 0 to 63"),
        (lambda view: Selection(Cut(torch.arange(8))), r"anchors are int64 \[2, rows kept\]"),
        (lambda view: Selection(Cut(torch.zeros(2, 8))), "anchors are int64"),
        (lambda view: Selection(Cut(torch.zeros(2, 0).long())), "1 to 64 rows can be kept, not 0"),
        (
            lambda view: Selection(Cut(torch.zeros(2, 1).long(), torch.zeros(2, 64).long())),
            "groups are int64",
        ),
        (
            lambda view: Selection(
                Cut(*(torch.zeros(2, n).long() for n in (1, 64)), torch.zeros(2, 1).bool())
            ),
            "a stage that merges rows has to read them",
        ),
        (
            lambda view: Selection(Cut(torch.zeros(2, 1).long(), weights=torch.zeros(2, 1, 9))),
            r"weights are \[2, 1, 64\], with add_anchor and without groups",
        ),
        (
            lambda view: Selection(Cut(torch.zeros(2, 1).long(), counts=torch.ones(2).long())),
            "counts by data are for stages inside the vision tower",
        ),
    ],
)
def test_a_cut_of_nothing_that_is_there_is_refused(model, prompts, select, sentence):
    with pytest.raises(PruningError, match=f"planted, stage cut before layer 2: {sentence}"):
        prefill_of(model, prompts, Planted(select))


@dataclass(frozen=True)
class PlantedInTower(Planted):
    """Its stage lies between tower and projector and reads the CLS row's attention alone."""

    tower_reads = (Read.CLS_ATTENTION,)

    def solve(self, budget, sizes):
        stage = EncoderStage("cut", self.tower_reads, self.select)
        return Plan((8,) * sizes.layers, encoder=(stage,))


class MergingInTower(PlantedInTower):
    tower_reads = (Read.FEATURES,)


def weighing(weight):
    def select(view):
        anchors = torch.arange(1, 9).expand(len(view.segments), -1)
        weights = torch.full((*anchors.shape, 64 + (Read.FEATURES in view.reads)), weight)
        return Selection(Cut(anchors, None, torch.zeros_like(anchors, dtype=torch.bool), weights))

    return select


@pytest.mark.parametrize(
    ("planted", "where"),
    [(partial(Planted, reads=(Read.HIDDEN,)), "before layer 2"), (MergingInTower, "in the vision")],
)
def test_weights_of_more_than_can_be_held_are_found(model, prompts, planted, where):
    prefill = prefill_of(model, prompts, planted(weighing(0.1)))
    assert torch.equal(prefill.entering, prefill.planned)
    with pytest.raises(PruningError, match=f"{where}.*: the rows it merged, up to"):
        prefill_of(model, prompts, planted(weighing(3e38)))


def test_rows_of_the_tower_are_counted_with_cls_whatever_is_read(model, prompts):
    prefill = prefill_of(model, prompts, PlantedInTower(keeping(*range(57, 65))))
    assert torch.equal(prefill.entering, prefill.planned)
    with pytest.raises(PruningError, match="in the vision tower: an index lies outside 0 to 64"):
        prefill_of(model, prompts, PlantedInTower(keeping(*range(58, 66))))


def test_what_a_stage_did_not_ask_for_it_does_not_see(model, prompts):
    with pytest.raises(KeyError):
        prefill_of(model, prompts, Planted(lambda view: Selection(Cut(view[Read.KEYS]))))
    with pytest.raises(PruningError, match="has to read text rows"):
        prefill_of(model, prompts, Planted(lambda view: Selection(Cut(view.text_after_image))))


def test_a_layer_that_the_model_does_not_have_is_refused(model, prompts):
    class Late(Planted):
        def solve(self, budget, sizes):
            plan = super().solve(budget, sizes)
            return Plan(plan.entering, decoder=(DecoderStage("late", 99, (), self.select),))

    with pytest.raises(PruningError, match="planted, stage late: the model has no layer 99"):
        prefill_of(model, prompts, Late(keeping(0)))
