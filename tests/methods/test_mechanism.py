"""Faults planted into what pruning is made of: each gives a sentence, and none a number."""

from __future__ import annotations

import copy
import re
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
import transformers
from contract import BUDGET, generate, logits
from small_models import small_llava
from transformers import DynamicCache

from methods import (
    Budget,
    Cut,
    DecoderStage,
    MechanismError,
    Method,
    Plan,
    PruningError,
    Read,
    Selection,
    attach,
    get_method,
)
from methods.tensors import best_in_order

TESTED = rf"transformers {re.escape(transformers.__version__)}, tested are 5\.17 to 5\.\d+$"


def planted(what: str):
    return pytest.raises(MechanismError, match=f"{what}.*{TESTED}")


def bypass_hooks(module):
    """As a release would that calls `module.forward`; the context takes its hooks away anyway."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        hooks.clear()


@pytest.mark.parametrize("name", ["unpruned", "fastv", "vitcop", "uniform"])
def test_a_renamed_cache_argument(model, prompts, name, monkeypatch):
    inputs = prompts.batch(0, 1)
    generate(model, inputs, get_method(name))
    monkeypatch.setattr("methods.caches.CACHE_ARGUMENT", "renamed")
    with planted("no KV cache under a known name"):
        generate(model, inputs, get_method(name))


@pytest.mark.parametrize("name", ["unpruned", "vitcop"])
@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_layer_that_bypasses_its_hook(prompts, name, place):
    model = small_llava()
    with planted("decoder layer"), attach(model, get_method(name), BUDGET):
        bypass_hooks(model.model.language_model.layers[place])
        model(**prompts.batch(0))


def test_a_text_model_that_bypasses_its_hooks(prompts):
    model = small_llava()
    with planted("text model's hooks"), attach(model, get_method("random"), BUDGET):
        bypass_hooks(model.model.language_model)
        model(**prompts.batch(0))


def test_all_layers_bypass_their_hooks(prompts):
    model = small_llava()
    with planted("0 of 8 decoder layers"), attach(model, get_method("random"), BUDGET):
        for layer in model.model.language_model.layers:
            bypass_hooks(layer)
        model(**prompts.batch(0))


def test_an_error_of_a_layers_own_stays_what_it_is(prompts):
    model = small_llava()
    model.model.language_model.layers[3].self_attn.q_proj.weight.data = torch.ones(3, 3)
    with pytest.raises(RuntimeError, match="shapes"), attach(model, get_method("vitcop"), BUDGET):
        model(**prompts.batch(0))


def test_a_layer_that_runs_twice(model, prompts):
    layer = model.model.language_model.layers[4]
    forward = layer.forward

    def twice(*args, **kwargs):
        layer.forward = forward
        layer(*args, **kwargs)
        return forward(*args, **kwargs)

    try:
        with attach(model, get_method("fastv"), BUDGET):
            layer.forward = twice
            with planted("decoder layer 4 was seen where layer 5 was due"):
                model(**prompts.batch(0))
    finally:
        layer.__dict__.pop("forward", None)


@pytest.mark.parametrize("step", [0, 1])
def test_a_second_write_to_the_cache(model, prompts, step, monkeypatch):
    """In the prefill, and in the first step after a sound one."""
    update, forwards = DynamicCache.update, []

    def twice(cache, keys, values, layer, *args, **kwargs):
        forwards.extend([layer] if layer == 0 else [])
        if layer == 5 and len(forwards) == step + 1:
            update(cache, keys, values, layer, *args, **kwargs)
        return update(cache, keys, values, layer, *args, **kwargs)

    monkeypatch.setattr(DynamicCache, "update", twice)
    with planted(r"layer 5 caches \d+ rows, \d+ tokens entered it"):
        generate(model, prompts.batch(0), get_method("uniform"))


def test_a_generation_that_is_not_found_again(model, prompts):
    with attach(model, get_method("unpruned"), Budget(fraction=1)), torch.no_grad():
        out = model(**prompts.batch(0), use_cache=True)
        other = copy.deepcopy(out.past_key_values)
        with planted("was not filled by a prompt inside this context"):
            model(input_ids=torch.tensor([[5]]), past_key_values=other)


class OtherCache(DynamicCache):
    pass


def test_a_cache_of_another_class(model, prompts):
    with (
        attach(model, get_method("fastv"), BUDGET),
        pytest.raises(PruningError, match="a OtherCache cannot be pruned"),
    ):
        model.generate(**prompts.batch(0), max_new_tokens=2, past_key_values=OtherCache())


# --- a pruned cache knows that it is one -------------------------------------------------------

ONLY_INSIDE = "only the `attach` context that pruned it"
PRUNING = ["vitcop", "fastv", "visionzip", "uniform", "sparsevlm", "pyramiddrop", "pooling"]


@pytest.mark.parametrize("name", PRUNING)
def test_a_pruned_cache_is_refused_elsewhere(model, prompts, name):
    token = {"input_ids": torch.tensor([[5]])}
    refused = pytest.raises(PruningError, match=ONLY_INSIDE)
    with torch.no_grad():
        with attach(model, get_method(name), BUDGET):
            inside = model(**prompts.batch(0), use_cache=True).past_key_values
            model(**token, past_key_values=inside)
        with refused:
            model(**token, past_key_values=inside)
        with refused:
            model.generate(torch.tensor([[5] * 90]), past_key_values=inside, max_new_tokens=2)
        with attach(model, get_method(name), BUDGET), refused:
            model(**token, past_key_values=inside)
        with refused:
            model(**token, past_key_values=copy.deepcopy(inside))


def test_another_model_cannot_go_on_from_a_pruned_cache_inside_the_context(model, prompts):
    with attach(model, get_method("uniform"), BUDGET), torch.no_grad():
        cache = model(**prompts.batch(0), use_cache=True).past_key_values
        with pytest.raises(PruningError, match=ONLY_INSIDE):
            small_llava()(input_ids=torch.tensor([[5]]), past_key_values=cache)
        model(input_ids=torch.tensor([[5]]), past_key_values=cache)


def test_a_cache_that_nothing_was_cut_from_goes_on_anywhere(model, prompts):
    token = {"input_ids": torch.tensor([[5]])}
    with torch.no_grad():
        plain = model(**prompts.batch(0), use_cache=True).past_key_values
        expected = model(**token, past_key_values=plain).logits
        with attach(model, get_method("vitcop"), Budget(10**6)):
            whole = model(**prompts.batch(0), use_cache=True).past_key_values
        assert torch.equal(model(**token, past_key_values=whole).logits, expected)


def test_pruning_anew_at_every_token_is_said(model, prompts, recwarn):
    generate(model, prompts.batch(0), get_method("fastv"))
    assert not [w for w in recwarn if "pruned anew" in str(w.message)]
    with pytest.warns(UserWarning, match="use_cache=False: the prompt is pruned anew"):
        generate(model, prompts.batch(0), get_method("fastv"), use_cache=False)


# --- what is no number -------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored(Method):
    """Keeps eight tokens by scores of its own."""

    label = name = "scored"
    factor: float = 1.0

    def solve(self, budget, sizes):
        def select(view):
            scores = view[Read.HIDDEN].float().norm(dim=-1) * self.factor
            return Selection(Cut(best_in_order(scores, 8)))

        return Plan((8,) * sizes.layers, decoder=(DecoderStage("own", 0, (Read.HIDDEN,), select),))


def test_nan_in_a_selections_scores_is_found(model, prompts):
    generate(model, prompts.batch(0), Scored())
    with pytest.raises(PruningError, match="scored, stage own before layer 0: its scores"):
        generate(model, prompts.batch(0), Scored(float("nan")))


@pytest.mark.parametrize("name", ["vitcop", "fastv", "sparsevlm", "pyramiddrop"])
def test_nan_in_what_a_stage_reads_is_found(prompts, name):
    sick = small_llava()
    sick.model.language_model.layers[0].self_attn.q_proj.weight.data[3] = float("nan")
    with pytest.raises(PruningError, match=r"stage .* before layer \d.*float32.*NaN or infinity"):
        generate(sick, prompts.batch(0), get_method(name))


@pytest.mark.parametrize("name", ["vitcop", "fastv"])
@pytest.mark.parametrize("size", [20_000, 40_000])
def test_a_merge_that_float16_cannot_hold_is_found(prompts, name, size):
    """A merged row is its anchor plus a mean: twice what the unpruned model has to hold."""
    half, inputs = small_llava().half(), prompts.batch(0, 2)
    inputs["pixel_values"] = inputs["pixel_values"].half()

    def grow(layer, args, output):
        output[..., 3] = size

    half.model.language_model.layers[0].register_forward_hook(grow)
    plain, _ = generate(half, inputs, get_method("unpruned"), Budget(10**6))
    assert logits(plain).isfinite().all()
    lost = name == "vitcop" and size > 32_752
    where = "vitcop, stage shallow before layer 1: the rows it merged, up to 65504 in torch.float16"
    with pytest.raises(PruningError, match=f"{where}: .*infinity") if lost else nullcontext():
        generate(half, inputs, get_method(name))


# --- sliding windows ---------------------------------------------------------------------------


def with_window(window: int):
    """Mistral's kind: every layer attends to the last `window` tokens."""
    model = small_llava()
    model.config.text_config.sliding_window = window
    return model


def test_a_prompt_longer_than_a_layers_window_is_refused(prompts):
    length = len(prompts.tokens[0])
    alone, _ = generate(small_llava(), prompts.batch(0), get_method("fastv"))
    short, _ = generate(with_window(length + 4), prompts.batch(0), get_method("fastv"))
    assert torch.equal(logits(alone), logits(short))
    with pytest.raises(PruningError, match=rf"{length} tokens .* windows of {length}"):
        generate(with_window(length), prompts.batch(0), get_method("fastv"))
    with pytest.raises(PruningError, match=rf"{length + 2} tokens .* windows of {length + 2}"):
        generate(with_window(length + 2), prompts.batch(0), get_method("fastv"))


def test_layers_that_attend_in_an_unknown_way_are_refused(prompts):
    model = small_llava()
    model.config.text_config.layer_types = ["full_attention"] * 7 + ["chunked_attention"]
    model.config.text_config.attention_chunk_size = 512
    with pytest.raises(PruningError, match="decoder layers of chunked_attention"):
        generate(model, prompts.batch(0), get_method("fastv"))
