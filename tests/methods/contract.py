"""What every method owes: checks that take any method, each an assertion that can fail.

`test_contract.py` runs them for all registered methods, `test_broken_methods.py` shows that methods
that are wrong on purpose are caught.
"""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction

import torch
from flash_stand_in import flash_path
from small_models import IMAGE, Prompts, small_llava
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from methods import Budget, Method, attach
from methods.adapters import adapter_for
from methods.interface import Positions, Read

BUDGET = Budget(fraction=0.4)
TEXT_READS = {
    Read.TEXT_HIDDEN,
    Read.NORMED_TEXT,
    Read.TEXT_KEYS,
    Read.TEXT_ATTENTION,
    Read.LAST_ATTENTION,
    Read.NEXT_LAST_ATTENTION,
    Read.UNROTATED_QUERY,
}


def generate(model, inputs, method, budget=BUDGET, seeds=None, **options):
    """Output with logits, and the trace of a greedy generation of four tokens."""
    settings = {"max_new_tokens": 4, "do_sample": False, **options}
    with attach(model, method, budget, seeds=seeds) as trace:
        out = model.generate(**inputs, **settings, output_logits=True, return_dict_in_generate=True)
    return out, trace


def logits(out):
    return torch.stack(out.logits, 1)


def new_tokens(out, inputs):
    return out.sequences[:, inputs["input_ids"].shape[1] :].tolist()


def hooks(model):
    return sum(
        len(m._forward_pre_hooks) + len(m._forward_hooks) + len(m._forward_hooks_with_kwargs)
        for m in model.modules()
    )


def assert_same_selections(one, other):
    for a, b in zip(one.prefills[-1].selections, other.prefills[-1].selections, strict=True):
        assert torch.equal(a.cut.anchors, b.cut.anchors)


def counts_are_the_plans(method: Method, model, prompts: Prompts):
    """Every layer gets, and caches, what was promised: other lengths, two images, none, padding."""
    _, trace = generate(model, prompts.batch(0, 1, 2, 3), method)
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])
    for selection in prefill.selections:
        rows = selection.cut.anchors.sort(1).values
        assert (rows[:, 1:] > rows[:, :-1]).all() or selection.cut.merges
        assert rows.min() >= 0


def a_batch_gives_what_singles_give(method: Method, model, prompts: Prompts):
    """Rows that keep different counts, next to padding, select and answer as they do alone."""
    together, trace = generate(model, prompts.batch(0, 1, 2, 3), method, seeds=[10, 11, 12, 13])
    prefill = trace.prefills[-1]
    for row in range(4):
        alone, own = generate(model, prompts.batch(row), method, seeds=[10 + row])
        found = new_tokens(together, prompts.batch(0, 1, 2, 3))[row]
        assert new_tokens(alone, prompts.batch(row))[0] == found
        torch.testing.assert_close(logits(alone)[0], logits(together)[row], atol=1e-4, rtol=0)
        assert torch.equal(own.prefills[-1].entering[0], prefill.entering[row])
        assert torch.equal(own.prefills[-1].cached[0], prefill.cached[row])


def kernels_agree(method: Method, model, prompts: Prompts):
    """sdpa, eager and the flash path, whose masks are 2-D or packed and which eyes position ids."""
    for rows in ((0,), (0, 1, 2, 3)):
        inputs = prompts.batch(*rows)
        one, trace = generate(model, inputs, method)
        for other, path in ((small_llava("eager"), nullcontext()), (model, flash_path(model))):
            with path:
                out, again = generate(other, inputs, method)
            torch.testing.assert_close(logits(one), logits(out), atol=1e-4, rtol=0)
            assert_same_selections(trace, again)


def the_same_again(method: Method, model, prompts: Prompts):
    """Determinism, and nothing left over from one generation in the next."""
    one, first = generate(model, prompts.batch(0, 1), method)
    generate(model, prompts.batch(2), method)
    other, second = generate(model, prompts.batch(0, 1), method)
    assert torch.equal(logits(one), logits(other))
    assert_same_selections(first, second)


def nothing_is_left_in_the_model(method: Method, model, prompts: Prompts):
    before = hooks(model), dict(model.__dict__), dict(model.model.__dict__)
    registry = dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_ATTENTION_FUNCTIONS.__dict__)
    plain = model(**prompts.batch(0)).logits
    generate(model, prompts.batch(0), method)
    assert (hooks(model), dict(model.__dict__), dict(model.model.__dict__)) == before
    assert registry == (dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_ATTENTION_FUNCTIONS.__dict__))
    assert torch.equal(plain, model(**prompts.batch(0)).logits)


def keeping_everything_changes_nothing(method: Method, model, prompts: Prompts):
    for rows in ((0,), (0, 1, 2, 3)):
        inputs = prompts.batch(*rows)
        plain = model.generate(
            **inputs,
            **{"max_new_tokens": 4, "do_sample": False},
            **{"output_logits": True, "return_dict_in_generate": True},
        )
        kept, _ = generate(model, inputs, method, Budget(10**6))
        assert torch.equal(logits(plain), logits(kept))


def the_ends_of_the_range_are_met(method: Method, model, prompts: Prompts):
    """The smallest and the largest feasible budget."""
    sizes = adapter_for(model).sizes(64)
    low, high = method.feasible(sizes)
    assert low is not None
    for tokens in (low, min(high, sizes.tokens - 1)):
        _, trace = generate(model, prompts.batch(0, 1), method, Budget(tokens))
        prefill = trace.prefills[-1]
        assert torch.equal(prefill.entering, prefill.planned)
        mean = Fraction(int(prefill.entering[0].sum()), sizes.layers)
        assert abs(mean - tokens) <= 1


def long_texts_are_no_surprise(method: Method, model, prompts: Prompts):
    """A plan knows the images only; the text may be longer than they are."""
    ids = prompts.tokens[0]
    long = [*ids, *([7, 11, 13] * 60)]
    inputs = {
        "input_ids": torch.tensor([long]),
        "attention_mask": torch.ones(1, len(long), dtype=torch.long),
        "pixel_values": prompts.pixels[0],
    }
    _, trace = generate(model, inputs, method)
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert int(prefill.text[0]) == len(long) - long.count(IMAGE)


def half_precision_keeps_the_counts(method: Method, model, prompts: Prompts):
    """bfloat16 and float16: every layer gets what was promised, and no NaN comes out."""
    for dtype in (torch.bfloat16, torch.float16):
        inputs = prompts.batch(0, 2)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        out, trace = generate(small_llava().to(dtype), inputs, method)
        prefill = trace.prefills[-1]
        assert torch.equal(prefill.entering, prefill.planned)
        assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])
        assert logits(out).isfinite().all()


def decoding_without_a_cache_is_the_same(method: Method, model, prompts: Prompts):
    """Where the selection does not look at the text, which grows with every token."""
    inputs = prompts.batch(0, 3)
    cached, _ = generate(model, inputs, method)
    plain, trace = generate(model, inputs, method, use_cache=False)
    torch.testing.assert_close(logits(cached), logits(plain), atol=1e-4, rtol=0)
    assert len(trace.prefills) == 4
    assert (trace.prefills[-1].cached == 0).all()


def removed_equals_masked(method: Method, model, prompts: Prompts):
    """Where a method only drops: the whole sequence, removed keys masked from their layer on."""
    eager, inputs = small_llava("eager"), prompts.batch(1)
    out, trace = generate(eager, inputs, method, max_new_tokens=1)
    slots = (inputs["input_ids"][0] == IMAGE).nonzero()[:, 0]
    removed = {0: torch.zeros(inputs["input_ids"].shape[1], dtype=torch.bool)}
    for selection in trace.prefills[-1].selections:
        left = slots[selection.cut.anchors[0]]
        gone = removed[max(removed)].clone()
        gone[slots] = True
        gone[left] = False
        removed[selection.layer], slots = gone, left

    def mask_removed(layer, args, kwargs):
        gone = removed[max(first for first in removed if first <= layer.self_attn.layer_idx)]
        length = args[0].shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool).tril() & ~gone
        allowed |= torch.eye(length, dtype=torch.bool)
        bias = torch.zeros(1, 1, length, length).masked_fill(~allowed, torch.finfo().min)
        return args, {**kwargs, "attention_mask": bias}

    handles = [
        layer.register_forward_pre_hook(mask_removed, with_kwargs=True)
        for layer in eager.model.language_model.layers
    ]
    with torch.no_grad():
        masked = eager(**inputs).logits[:, -1]
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(logits(out)[:, 0], masked, atol=1e-4, rtol=0)


CHECKS = (
    counts_are_the_plans,
    a_batch_gives_what_singles_give,
    kernels_agree,
    the_same_again,
    nothing_is_left_in_the_model,
    keeping_everything_changes_nothing,
    long_texts_are_no_surprise,
    half_precision_keeps_the_counts,
)


def _positions_stay(method: Method, model) -> bool:
    plan = method.plan(BUDGET, adapter_for(model).sizes(64))
    return all(stage.positions is Positions.ORIGINAL for stage in plan.decoder)


def ignores_new_text(method: Method, model) -> bool:
    """Whether neither selection nor position ids depend on the text that follows."""
    plan = method.plan(BUDGET, adapter_for(model).sizes(64))
    reads_text = any(TEXT_READS & set(stage.reads) for stage in plan.decoder)
    return not reads_text and _positions_stay(method, model)


def only_drops(method: Method, model, prompts: Prompts) -> bool:
    """Whether it cuts in the decoder only, and kept rows stay as and where they are."""
    _, trace = generate(model, prompts.batch(1), method, max_new_tokens=1)
    cuts = trace.prefills[-1].selections
    drops = all(cut.layer is not None and not cut.cut.merges for cut in cuts)
    return bool(cuts) and drops and _positions_stay(method, model)
