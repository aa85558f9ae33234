"""Stages inside the vision tower: in batches, with other methods' images about."""

from __future__ import annotations

from contextlib import nullcontext

import contract
import pytest
import torch
from contract import logits, new_tokens
from flash_stand_in import flash_path
from small_models import make_prompts, small_llava

from methods import Budget, PruningError, attach, get_method
from methods.sharing import SharedImages, TowerStore

LAYERS = 6
BUDGET = Budget(fraction=0.3)
NAMES = ("flowcut", "tome")


@pytest.fixture(scope="module", params=[True, False], ids=["clip", "siglip"])
def deep(request):
    """A tower deep enough to cut more than once."""
    return small_llava(tower_layers=LAYERS, has_cls=request.param)


def generate(model, inputs, name, budget=BUDGET, **options):
    return contract.generate(model, inputs, get_method(name), budget, **options)


@pytest.fixture(scope="module")
def clip():
    return small_llava(tower_layers=LAYERS)


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [BUDGET, Budget(40), Budget(100)], ids=str)
def test_a_batch_gives_what_singles_give(deep, prompts, name, budget):
    """One image, two, none; images keep different rows; one sample may stay whole beside others."""
    inputs = prompts.batch(0, 1, 2, 3)
    together, trace = generate(deep, inputs, name, budget)
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])
    for row in range(4):
        alone, own = generate(deep, prompts.batch(row), name, budget)
        torch.testing.assert_close(logits(alone)[0], logits(together)[row], atol=1e-4, rtol=0)
        assert (own.prefills[-1].tower_rows or [()])[0] == (prefill.tower_rows[row])


@pytest.mark.parametrize("name", NAMES)
def test_kernels_agree_where_rows_are_padded(prompts, name):
    inputs, model = prompts.batch(0, 1, 2), small_llava(tower_layers=LAYERS)
    one, trace = generate(model, inputs, name)
    eager = small_llava("eager", tower_layers=LAYERS)
    for other, path in ((eager, nullcontext()), (model, flash_path(model))):
        with path:
            out, again = generate(other, inputs, name)
        torch.testing.assert_close(logits(one), logits(out), atol=1e-4, rtol=0)
        contract.assert_same_selections(trace, again)


@pytest.mark.parametrize("name", NAMES)
def test_beams_in_a_batch_equal_beams_alone(clip, prompts, name):
    beams = {"num_beams": 3, "num_return_sequences": 2}
    inputs = prompts.batch(0, 1)
    together, _ = generate(clip, inputs, name, **beams)
    for row in (0, 1):
        alone, _ = generate(clip, prompts.batch(row), name, **beams)
        expected = new_tokens(together, inputs)[2 * row : 2 * row + 2]
        assert new_tokens(alone, prompts.batch(row)) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_the_counts(prompts, name, dtype):
    half, inputs = small_llava(tower_layers=LAYERS).to(dtype), prompts.batch(0, 1, 2)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    out, trace = generate(half, inputs, name)
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert logits(out).isfinite().all()


# --- what the tower is told, and what it leaves -------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_images_without_their_prompt_are_refused(model, prompts, name):
    inputs = prompts.batch(0)
    with (
        attach(model, get_method(name), Budget(fraction=0.4)),
        pytest.raises(PruningError, match="has to know the prompt before its images"),
    ):
        model.model.get_image_features(pixel_values=inputs["pixel_values"])


def test_more_images_than_the_prompt_names_are_refused(model, prompts):
    inputs = {**prompts.batch(0), "pixel_values": prompts.pixels[2]}
    with (
        attach(model, get_method("flowcut"), BUDGET),
        pytest.raises(PruningError, match="the prompts name 1 images but 2 were given"),
    ):
        model.generate(**inputs, max_new_tokens=2)


@pytest.mark.parametrize("name", NAMES)
def test_stored_images_are_neither_taken_nor_changed(model, prompts, name):
    """A comparison keeps the whole tower's outputs for all of its methods."""
    inputs, keys, store = prompts.batch(0, 1), ["a", "b"], TowerStore(2**30)
    budget = Budget(fraction=0.4)
    alone, _ = generate(model, inputs, name, budget)

    def shared(method):
        with attach(model, get_method(method), budget, images=SharedImages(store, keys)):
            out = model.generate(
                **inputs, max_new_tokens=4, do_sample=False, output_logits=True,
                return_dict_in_generate=True,
            )  # fmt: skip
        return logits(out)

    assert torch.equal(shared(name), logits(alone))
    assert not store.stored_bytes
    first = shared("fastv")
    assert store.holds(keys)
    assert torch.equal(shared(name), logits(alone))
    assert torch.equal(shared("fastv"), first)


def test_generate_is_put_back(model, prompts):
    def own(**inputs):
        return type(model).generate(model, **inputs)

    model.generate = own
    try:
        with attach(model, get_method("flowcut"), BUDGET) as trace:
            model.generate(**prompts.batch(0), max_new_tokens=2)
        assert model.__dict__.pop("generate") is own
    finally:
        model.__dict__.pop("generate", None)
    assert trace.prefills[-1].tower_rows


def test_keeping_everything_changes_nothing(deep, prompts):
    inputs = prompts.batch(0, 2, 3)
    plain, _ = generate(deep, inputs, "unpruned", Budget(10**6))
    for name in NAMES:
        kept, _ = generate(deep, inputs, name, Budget(10**6))
        assert torch.equal(logits(plain), logits(kept))


def test_prompts_of_another_length_follow(clip):
    """Nothing of one prompt's images is left for the next."""
    prompts = make_prompts()
    for row in (2, 0, 3, 1):
        _, trace = generate(clip, prompts.batch(row), "flowcut")
        assert torch.equal(trace.prefills[-1].entering, trace.prefills[-1].planned)
