"""Every family of models: pruning removes what a stock model with those keys forbidden ignores."""

from __future__ import annotations

import pytest
import torch
from forbidden_keys import (
    forbidding,
    generated,
    holds_its_promise,
    kept_by,
    pruned,
    stepped,
    visual_places,
)
from tiny_families import FAMILIES

from methods import Budget, PruningError, get_method, methods

DROPPING = ("fastv", "v2drop", "random", "uniform", "feather")
"""Methods that leave what they keep as and where it is."""


NUMBERING = ("sparsevlm", "pyramiddrop", "divprune", "cdpruner")
"""Methods that number what they keep anew."""
NOT_DEFINED = {
    **dict.fromkeys(("llava_next", "onevision", "onevision_with_video"), ("pooling",)),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), NUMBERING),
    **dict.fromkeys(("qwen2_5_vl_video", "qwen3_vl", "qwen3_vl_video"), ("pooling", *NUMBERING)),
}


@pytest.fixture(params=FAMILIES)
def named_family(request):
    """A family's name, a model of it, and its batch of two."""
    return request.param, *FAMILIES[request.param]()


@pytest.fixture
def family(named_family):
    """A model and its batch of two."""
    return named_family[1:]


@pytest.mark.parametrize("name", DROPPING)
def test_removed_tokens_are_those_that_the_stock_model_may_not_see(family, name):
    model, inputs = family
    (logits, tokens), trace = pruned(generated, get_method(name), model, inputs)
    holds_its_promise(trace)
    kept = kept_by(trace.prefills[-1], inputs)
    assert kept
    with forbidding(model, kept):
        expected, same = generated(model, inputs)
        step_by_step = stepped(model, inputs, tokens)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - generated(model, inputs)[0]).abs().max() > 0.05
    again, trace = pruned(stepped, get_method(name), model, inputs, tokens)
    holds_its_promise(trace)
    torch.testing.assert_close(again, step_by_step, atol=1e-4, rtol=0)


def test_keeping_everything_changes_no_bit(family):
    model, inputs = family
    method, everything = get_method("fastv"), Budget(fraction=1)
    logits, tokens = generated(model, inputs)
    (kept, _), trace = pruned(generated, method, model, inputs, budget=everything)
    assert torch.equal(logits, kept)
    assert trace.prefills[-1].entering[:, 0].tolist() == visual_places(inputs).sum(1).tolist()
    loop, _ = pruned(stepped, method, model, inputs, tokens, budget=everything)
    assert torch.equal(stepped(model, inputs, tokens), loop)


def test_every_method_keeps_its_promise_or_says_that_it_is_not_defined(named_family):
    name, model, inputs = named_family
    for method in map(get_method, methods()):
        if method.tower_reads or method.inside_tower:
            sentence = f"^{method.label} is not defined here for {type(model).__name__}: "
        elif method.name in NOT_DEFINED.get(name, ()):
            sentence = "is not defined "
        else:
            _, trace = pruned(generated, method, model, inputs, budget=Budget(fraction=0.5))
            holds_its_promise(trace)
            continue
        with pytest.raises(PruningError, match=sentence):
            pruned(generated, method, model, inputs, budget=Budget(fraction=0.5))
