"""Every family of models: pruning removes what a stock model with those keys forbidden ignores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from tiny_families import FAMILIES, IMAGE, VIDEO, Inputs, forbidding
from torch import Tensor

from methods import Budget, Method, PruningError, attach, get_method, methods
from methods.caches import CACHE_ARGUMENT
from methods.trace import Prefill, Trace

SHARE = Budget(fraction=0.45)
DROPPING = ("fastv", "v2drop", "random", "uniform", "feather")
"""Methods that leave what they keep as and where it is."""
NEW = 5


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


def generated(model, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Logits [batch, steps, vocabulary] and tokens [batch, steps] of a greedy generation."""
    with torch.no_grad():
        out = model.generate(
            **inputs,
            **{"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False},
            **{"output_logits": True, "return_dict_in_generate": True},
        )
    return torch.stack(out.logits, 1), out.sequences[:, -NEW:]


def stepped(model, inputs: Inputs, tokens: Tensor) -> Tensor:
    """Logits [batch, steps, vocabulary] of plain forwards: the prompt's, then of given tokens."""
    mask, logits = inputs["attention_mask"], []
    with torch.no_grad():
        out = model(**inputs, use_cache=True)
        logits.append(out.logits[:, -1])
        for token in tokens[:, : NEW - 1].split(1, 1):
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            options = {CACHE_ARGUMENT: getattr(out, CACHE_ARGUMENT), "use_cache": True}
            if (deltas := getattr(model.model, "rope_deltas", None)) is not None:
                # where positions have three axes the stock model cannot go on by the mask alone
                step = mask.cumsum(1)[:, -1:] - 1 + deltas
                options["position_ids"] = step.expand(3, -1, -1)
            out = model(input_ids=token, attention_mask=mask, **options)
            logits.append(out.logits[:, -1])
    return torch.stack(logits, 1)


def pruned(run: Callable[..., object], method: Method, model, *given, budget=SHARE):
    """What `run` gives while the method is attached, and the trace of it."""
    with attach(model, method, budget) as trace:
        return run(model, *given), trace


def visual_places(inputs: Inputs) -> Tensor:
    """bool [B, L]: where images and videos stand."""
    return torch.isin(inputs["input_ids"], torch.tensor([IMAGE, VIDEO]))


def kept_by(prefill: Prefill, inputs: Inputs) -> Mapping[int, Tensor]:
    """Prompt places that are left from each cut on: bool [B, L] by layer."""
    visual = visual_places(inputs)
    places = [row.nonzero()[:, 0] for row in visual]
    kept: dict[int, Tensor] = {}
    for selection in sorted(prefill.selections, key=lambda s: s.layer):
        now = kept.setdefault(selection.layer, (~visual).clone())
        for row, anchors in zip(selection.rows, selection.cut.anchors, strict=True):
            places[row] = places[row][anchors]
            now[row, places[row]] = True
    valid = inputs["attention_mask"].bool()
    return {layer: now & valid for layer, now in kept.items()}


def holds_its_promise(trace: Trace) -> None:
    for prefill in trace.prefills:
        assert torch.equal(prefill.entering, prefill.planned)
        assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])


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
