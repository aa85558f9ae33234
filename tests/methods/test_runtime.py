"""The runtime: batches, kernels, masks, positions, caches, and the model as it was before."""

from __future__ import annotations

from dataclasses import dataclass

import contract
import pytest
import torch
from contract import BUDGET, hooks, logits, new_tokens
from small_models import small_llava
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from methods import (
    Budget,
    Cut,
    DecoderStage,
    InfeasibleBudgetError,
    Method,
    Plan,
    PruningError,
    Selection,
    attach,
    get_method,
)
from methods.interface import Read
from methods.sequence import Run


def generate(model, inputs, name="vitcop", *arguments, **options):
    return contract.generate(model, inputs, get_method(name), *arguments, **options)


@pytest.mark.parametrize(
    "name", ["vitcop", "fastv", "random", "hiprune", "prumerge", "v2drop", "dart", "vscan"]
)
def test_beams_in_a_batch_equal_beams_alone(model, prompts, name):
    beams = {"num_beams": 3, "num_return_sequences": 2}
    inputs = prompts.batch(0, 1)
    together, _ = generate(model, inputs, name, seeds=[4, 5], **beams)
    for row in (0, 1):
        alone, _ = generate(model, prompts.batch(row), name, seeds=[4 + row], **beams)
        expected = new_tokens(together, inputs)[2 * row : 2 * row + 2]
        assert new_tokens(alone, prompts.batch(row)) == expected


def test_sampling_is_pruned(model, prompts):
    torch.manual_seed(0)
    _, trace = generate(model, prompts.batch(0), do_sample=True, num_return_sequences=3)
    assert trace.prefills[-1].entering.shape[0] == 3


def test_a_cut_that_keeps_all_rows_changes_nothing(model, prompts):
    """All the rewriting of masks and angles, with nothing removed."""

    class KeepAll(Method):
        label = name = "keep-all"

        def solve(self, budget, sizes):
            def select(view):
                return Selection(Cut(torch.arange(view.count).expand(len(view.segments), -1)))

            stages = tuple(DecoderStage("all", layer, (), select) for layer in (0, 2, 5))
            return Plan((sizes.tokens,) * sizes.layers, decoder=stages if sizes.tokens else ())

    inputs = prompts.batch(0, 1, 3)
    options = {"max_new_tokens": 4, "do_sample": False, "output_logits": True}
    plain = model.generate(**inputs, **options, return_dict_in_generate=True)
    with attach(model, KeepAll(), BUDGET):
        kept = model.generate(**inputs, **options, return_dict_in_generate=True)
    assert torch.equal(logits(plain), logits(kept))


def test_after_an_exception_the_model_is_as_before(model, prompts):
    before = hooks(model), dict(model.__dict__), dict(model.model.__dict__)
    registry = dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_ATTENTION_FUNCTIONS.__dict__)
    with pytest.raises(KeyError), attach(model, get_method("vitcop"), BUDGET):
        raise KeyError
    assert (hooks(model), dict(model.__dict__), dict(model.model.__dict__)) == before
    assert registry == (dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_ATTENTION_FUNCTIONS.__dict__))


@dataclass(frozen=True)
class Broken(Method):
    label = name = "broken"

    def solve(self, budget, sizes):
        def select(view):
            raise ZeroDivisionError("planted")

        return Plan((8,) * sizes.layers, decoder=(DecoderStage("cut", 2, (), select),))


def test_an_exception_in_a_stage_reaches_the_caller_and_leaves_nothing(model, prompts):
    before = hooks(model)
    with pytest.raises(ZeroDivisionError, match="planted"), attach(model, Broken(), BUDGET):
        model(**prompts.batch(0))
    assert hooks(model) == before


def test_other_models_are_left_alone(model, prompts):
    other = small_llava(layers=4)
    alone = other(**prompts.batch(0)).logits
    with attach(model, get_method("fastv"), BUDGET):
        assert torch.equal(alone, other(**prompts.batch(0)).logits)
        with attach(other, get_method("vitcop"), BUDGET) as inner:
            other.generate(**prompts.batch(0), max_new_tokens=2)
            _, trace = model.generate(**prompts.batch(0), max_new_tokens=2), inner
        assert torch.equal(alone, other(**prompts.batch(0)).logits)
    assert len(trace.prefills) == 1


def test_generations_may_interleave(model, prompts):
    def steps(inputs):
        out = model(**inputs, use_cache=True)
        for _ in range(3):
            token = out.logits[:, -1:].argmax(-1)
            yield out.logits[:, -1]
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)

    with attach(model, get_method("vitcop"), BUDGET):
        one = list(steps(prompts.batch(0)))
        two = list(steps(prompts.batch(1)))
        mixed = list(zip(steps(prompts.batch(0)), steps(prompts.batch(1)), strict=True))
    for (a, b), first, second in zip(mixed, one, two, strict=True):
        assert torch.equal(a, first)
        assert torch.equal(b, second)


def test_a_right_padded_forward_is_pruned_like_a_left_padded_one(model, prompts):
    left = prompts.batch(0, 1)
    right = {
        **left,
        "input_ids": left["input_ids"].clone(),
        "attention_mask": left["attention_mask"].clone(),
    }
    pad = int((left["attention_mask"][0] == 0).sum())
    for key in ("input_ids", "attention_mask"):
        right[key][0] = left[key][0].roll(-pad)
    with attach(model, get_method("vitcop"), BUDGET) as trace, torch.no_grad():
        one = model(**left).logits[0, -1]
        other = model(**right).logits[0, -1]
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert torch.equal(trace.prefills[0].entering, trace.prefills[1].entering)


def test_what_pruning_would_make_silently_wrong_is_refused(model, prompts):
    inputs = prompts.batch(0)
    with attach(model, get_method("fastv"), BUDGET):
        with pytest.raises(PruningError, match="labels"):
            model(**inputs, labels=inputs["input_ids"])
        with pytest.raises(PruningError, match="StaticCache"):
            model.generate(**inputs, max_new_tokens=2, cache_implementation="static")
        with pytest.raises(PruningError):
            model.generate(**inputs, max_new_tokens=2, prefill_chunk_size=16)
        again = attach(model, get_method("fastv"), BUDGET)
        with pytest.raises(PruningError, match="attached to this model already"), again:
            pass
        out = model(**inputs, use_cache=True)
        with pytest.raises(PruningError, match="token by token"):
            model(input_ids=torch.tensor([[5, 6]]), past_key_values=out.past_key_values)


def test_an_infeasible_budget_says_what_is_feasible(model, prompts):
    with pytest.raises(InfeasibleBudgetError, match="feasible is 9 to 64") as raised:
        generate(model, prompts.batch(0), "fastv", Budget(3))
    assert (raised.value.low, raised.value.high) == (9, 64)


def test_unsupported_models_are_refused():
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            vocab_size=9,
        )
    )
    refused = pytest.raises(PruningError, match=r"LlamaForCausalLM is not supported.*LlavaForCond")
    with refused, attach(llama, get_method("fastv"), BUDGET):
        pass


def test_angles_follow_a_model_that_is_spread_over_devices():
    flags, angles = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, 8)
    run = Run(0, flags, flags, torch.arange(3)[None], (3,), (3,), (angles, angles))
    moved = run.to(torch.device("meta"))
    assert {part.device.type for part in (*moved.rotary, moved.valid)} == {"meta"}
    run.rotary = None
    assert run.to(torch.device("meta")).rotary is None


def test_a_tower_layer_that_is_not_there_is_refused(model, prompts):
    with pytest.raises(PruningError, match="the vision tower has layers 0 to 2, and no 9"):
        contract.generate(model, prompts.batch(0), get_method("vscan", tower_layer=9))
    contract.generate(model, prompts.batch(0), get_method("vscan"))


def test_the_tower_refuses_what_it_does_not_show(model, prompts):
    class Astray(type(get_method("visionzip"))):
        tower_reads = (Read.CLS_ATTENTION, Read.KEYS)

    with pytest.raises(PruningError, match="does not show keys; it has features, tower_keys"):
        contract.generate(model, prompts.batch(0), Astray())
