"""Answers from stored tower outputs are the answers."""

from __future__ import annotations

import pytest
import torch

from methods import Budget, attach, get_method
from methods.sharing import SharedImages, TowerStore

BUDGET = Budget(fraction=0.4)


def generate(model, inputs, name, images=None):
    with attach(model, get_method(name), BUDGET, images=images) as trace:
        out = model.generate(
            **inputs, max_new_tokens=3, do_sample=False, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
    return torch.stack(out.logits, 1), trace.prefills[-1]


@pytest.mark.parametrize("name", ["unpruned", "vitcop", "fastv", "hiprune", "prumerge", "vscan"])
def test_stored_images_give_the_same_logits(model, prompts, name):
    inputs, keys = prompts.batch(0, 1, 2), ["a", "b", "c", "d"]
    store = TowerStore(2**30)
    alone, own = generate(model, inputs, name)
    first, _ = generate(model, inputs, name, SharedImages(store, keys))
    assert store.holds(keys)
    inputs["pixel_values"] = torch.empty(4, 0)  # the tower must not run again
    second, shared = generate(model, inputs, name, SharedImages(store, keys))
    assert torch.equal(alone, first)
    assert torch.equal(alone, second)
    for a, b in zip(own.selections, shared.selections, strict=True):
        assert torch.equal(a.cut.anchors, b.cut.anchors)


def test_images_may_come_in_another_order_and_batch(model, prompts):
    store = TowerStore(2**30)
    generate(model, prompts.batch(0, 1), "vitcop", SharedImages(store, ["a", "b"]))
    alone, _ = generate(model, prompts.batch(1, 3), "vitcop")
    shared, _ = generate(model, prompts.batch(1, 3), "vitcop", SharedImages(store, ["b"]))
    torch.testing.assert_close(alone, shared, atol=1e-4, rtol=0)


@pytest.mark.parametrize("first", ["unpruned", "vitcop"])
def test_what_only_a_later_method_reads_is_stored_for_it(model, prompts, first):
    inputs, keys = prompts.batch(0, 1, 2), ["a", "b", "c", "d"]
    store, reads = TowerStore(2**30), get_method("hiprune").tower_reads
    generate(model, prompts.batch(0), first, SharedImages(store, keys[:1]))
    before = store.stored_bytes
    assert store.holds(keys[:1])
    assert not store.holds(keys[:1], reads)
    alone, _ = generate(model, inputs, "hiprune")
    again, _ = generate(model, inputs, "hiprune", SharedImages(store, keys))
    assert store.holds(keys, reads)
    assert before < store.stored_bytes / 4
    inputs["pixel_values"] = torch.empty(4, 0)  # the tower must not run again
    stored, _ = generate(model, inputs, "hiprune", SharedImages(store, keys))
    assert torch.equal(alone, again)
    assert torch.equal(alone, stored)
    other, _ = generate(model, inputs, "vitcop", SharedImages(store, keys))
    plain, _ = generate(model, prompts.batch(0, 1, 2), "vitcop")
    assert torch.equal(plain, other)


def test_images_that_show_more_and_less_are_read_together(model, prompts):
    store = TowerStore(2**30)
    generate(model, prompts.batch(0), "vitcop", SharedImages(store, ["a"]))
    generate(model, prompts.batch(1), "hiprune", SharedImages(store, ["b"]))
    alone, _ = generate(model, prompts.batch(0, 1), "vitcop")
    inputs = prompts.batch(0, 1)
    inputs["pixel_values"] = torch.empty(2, 0)
    shared, _ = generate(model, inputs, "vitcop", SharedImages(store, ["a", "b"]))
    torch.testing.assert_close(alone, shared, atol=1e-4, rtol=0)


def test_past_the_bound_images_are_recomputed(model, prompts):
    store = TowerStore(max_bytes=30_000)
    alone, _ = generate(model, prompts.batch(0, 1), "vitcop")
    for _ in range(2):
        shared, _ = generate(model, prompts.batch(0, 1), "vitcop", SharedImages(store, ["a", "b"]))
        assert torch.equal(alone, shared)
    assert not store.holds(["a", "b"])
    assert 0 < store.stored_bytes <= 30_000


def test_a_method_in_the_tower_refuses_images_stored_without_it(model, prompts):
    store = TowerStore(2**30, reads_tower=False)
    generate(model, prompts.batch(0), "fastv", SharedImages(store, ["a"]))
    with pytest.raises(RuntimeError, match="without showing what the method reads"):
        generate(model, prompts.batch(0), "vitcop", SharedImages(store, ["a"]))


def test_the_untouched_method_is_found_again(model, prompts):
    with attach(model, get_method("fastv"), BUDGET, images=SharedImages(TowerStore(1), ["a"])):
        assert "get_image_features" in model.model.__dict__
    assert "get_image_features" not in model.model.__dict__
