"""VisionZip and HiPrune on Qwen2.5-VL, whose tower goes by windows and merges patches."""

from __future__ import annotations

import contract
import numpy as np
import pytest
import torch
from conftest import FIXTURES
from flash_stand_in import flash_path
from forbidden_keys import forbidding, generated, kept_by, pruned
from tiny_families import FAMILIES, IMAGE, alone, noise
from torch import Tensor

from baselines.hiprune import hierarchy
from baselines.visionzip import zip_tokens
from methods import Budget, MechanismError, PruningError, attention, get_method
from methods.adapters import adapter_for
from methods.adapters.qwen_vl import WindowedQwenVLAdapter
from methods.attention import QueriesKeys
from methods.interface import Cut, Read, Segment
from methods.merged_tower import MergedRecording, MergedWatch
from methods.recording import observing
from methods.tensors import apply_cut

ZIP, SHARE = get_method("visionzip"), Budget(fraction=0.5)


@pytest.fixture
def batch():
    """A model, and a batch of two prompts with images of 3 × 5, 4 × 2 and 4 × 4 tokens."""
    return FAMILIES["qwen2_5_vl"]()


# --- what the published code makes of a recorded tower ------------------------------------------


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "visionzip-qwen25.npz") as found:
        return dict(found)


def shown_of(stored, monkeypatch) -> tuple[Tensor, Tensor]:
    """Score [1, n] and metric [1, n, d] of the fixture's image, by the recording."""
    model, _ = FAMILIES["qwen2_5_vl"]()
    t, h, w = stored["grid_thw"][0].tolist()
    segment = Segment(h // 2, w // 2, t, has_cls=False, merged=2)
    adapter = adapter_for(model)
    order = torch.from_numpy(stored["window_index"])
    monkeypatch.setattr(adapter, "tower_order", lambda own: order)
    keys = torch.from_numpy(stored["keys"])[None]
    received = torch.from_numpy(stored["received"]).expand(1, keys.shape[1], -1)
    monkeypatch.setattr(QueriesKeys, "received", lambda own: received)
    recording = MergedRecording(adapter, {2: [QueriesKeys(keys, keys, 1.0)]})
    heads = recording.shown(Read.TOWER_KEYS, segment).unflatten(-1, (keys.shape[1], -1))
    return recording.shown(Read.CLS_ATTENTION, segment).mean(1), heads.mean(2)


def test_scores_and_keys_are_those_of_the_published_code(stored, monkeypatch):
    score, metric = shown_of(stored, monkeypatch)
    np.testing.assert_allclose(score[0].numpy(), stored["score"], atol=1e-6)
    np.testing.assert_allclose(metric[0].numpy(), stored["metric"], atol=1e-6)


@pytest.mark.parametrize("share", ["0.333", "0.222", "0.111"])
def test_the_cut_is_that_of_the_published_code(stored, monkeypatch, share):
    score, metric = shown_of(stored, monkeypatch)
    of_dominant, of_contextual = stored[f"visionzip-{share}/shares"]
    tokens = score.shape[1]
    cut = zip_tokens(score, metric, int(of_dominant * tokens), max(int(of_contextual * tokens), 1))
    ids = torch.from_numpy(stored["input_ids"])[0]
    places = (ids == 7).nonzero()[:, 0]
    hidden = torch.from_numpy(stored["embeds"])
    rows = hidden.clone()
    rows[:, places[cut.anchors[0]]] = apply_cut(hidden[:, places], cut)
    kept = (ids != 7).index_fill(0, places[cut.anchors[0]], True)
    np.testing.assert_allclose(rows[0, kept], stored[f"visionzip-{share}/out_embeds"], atol=1e-5)
    axes = stored["position_ids"][:, 0, kept.numpy()]
    np.testing.assert_array_equal(axes, stored[f"visionzip-{share}/out_position_ids"])


def test_windows_are_those_of_the_published_code(stored, monkeypatch, batch):
    adapter = adapter_for(batch[0])
    for name, value in (("window_size", 112), ("patch_size", 14)):
        monkeypatch.setattr(adapter.model.config.vision_config, name, value)
    t, h, w = stored["grid_thw"][0].tolist()
    order = adapter.tower_order(Segment(h // 2, w // 2, t, has_cls=False, merged=2))
    assert order.tolist() == stored["window_index"].tolist()


# --- the runtime --------------------------------------------------------------------------------


def seen_in_stock(model, inputs) -> tuple[list[QueriesKeys], list[Tensor], dict]:
    """Queries and keys of each image in the tower's last layer, in which order its tokens lie
    there, and what the text model gets.
    """
    calls, merged, entering = [], [], {}
    tower, text = model.model.visual, model.get_decoder()
    handles = [
        tower.merger.register_forward_hook(lambda module, args, out: merged.append(out)),
        text.register_forward_pre_hook(
            lambda module, args, kwargs: entering.update(kwargs), with_kwargs=True
        ),
    ]
    with torch.no_grad(), observing({tower.blocks[-1].attn: calls.append}):
        out = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
        model(**inputs)
    for handle in handles:
        handle.remove()
    rows = merged[0].split([len(own) for own in out.pooler_output])
    orders = [
        (in_tower[:, None] == tokens).all(-1).long().argmax(1)
        for in_tower, tokens in zip(rows, out.pooler_output, strict=True)
    ]
    return calls[: len(orders)], orders, entering


def cuts_of(model, inputs, counts: list[tuple[int, int]]) -> list[Cut]:
    """Of each image, by what the stock tower shows."""
    calls, orders, _ = seen_in_stock(model, inputs)
    cuts = []
    for own, order, (dominant, contextual) in zip(calls, orders, counts, strict=True):
        weights = (own.queries @ own.keys.transpose(-1, -2) * own.scaling).softmax(-1)
        score = weights[0].mean(0).sum(0).unflatten(0, (-1, 4)).mean(-1)
        metric = own.keys[0].mean(0).unflatten(0, (-1, 4)).mean(1)
        back = order.argsort()
        cuts.append(zip_tokens(score[None, back], metric[None, back], dominant, contextual))
    return cuts


def test_the_cut_is_made_of_what_the_tower_shows(batch):
    model, inputs = batch
    (logits, _), trace = pruned(generated, ZIP, model, inputs, budget=SHARE)
    counts = [
        pair
        for plan in trace.prefills[-1].plans
        for pair in zip(plan.parameters["dominant"], plan.parameters["contextual"], strict=True)
    ]
    first, second, third = cuts_of(model, inputs, counts)
    found = {selection.rows: selection.cut for selection in trace.prefills[-1].selections}
    assert torch.equal(found[0,].anchors, torch.cat([first.anchors, second.anchors + 15], 1))
    assert torch.equal(found[1,].anchors, third.anchors)
    torch.testing.assert_close(logits[:, 0], merged_prompt(batch, found), atol=1e-4, rtol=0)


def merged_prompt(batch, cuts: dict[tuple[int, ...], Cut]) -> Tensor:
    """The last logits [2, vocabulary] of the stock text model on what the cuts leave."""
    model, inputs = batch
    entering, logits = seen_in_stock(model, inputs)[2], []
    for row in range(2):
        valid = inputs["attention_mask"][row].bool()
        hidden = entering["inputs_embeds"][row : row + 1, valid]
        visual = inputs["input_ids"][row, valid] == IMAGE
        places, kept = visual.nonzero()[:, 0], ~visual
        cut = cuts[row,]
        hidden[:, places[cut.anchors[0]]] = apply_cut(hidden[:, places], cut)
        kept[places[cut.anchors[0]]] = True
        axes = entering["position_ids"][-3:, row : row + 1, valid][..., kept]
        with torch.no_grad():
            out = model.get_decoder()(inputs_embeds=hidden[:, kept], position_ids=axes)
            logits.append(model.lm_head(out.last_hidden_state[:, -1]))
    return torch.cat(logits)


def test_prompts_alone_and_another_kernel_give_the_same(batch):
    model, inputs = batch
    (logits, tokens), trace = pruned(generated, ZIP, model, inputs, budget=SHARE)
    with flash_path(model):  # takes the patches of all images at once
        (others, same), again = pruned(generated, ZIP, model, inputs, budget=SHARE)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, others, atol=1e-3, rtol=0)
    contract.assert_same_selections(trace, again)
    own = alone(inputs, 1, {"pixel_values": slice(92, None), "image_grid_thw": slice(2, None)})
    (single, same), _ = pruned(generated, ZIP, model, own, budget=SHARE)
    assert torch.equal(tokens[1:], same)
    torch.testing.assert_close(logits[1:], single, atol=1e-4, rtol=0)


def test_hiprune_keeps_by_what_tokens_receive(batch):
    """Objects of the first of three layers, registers of the last, columns of each image."""
    model, inputs = batch
    (logits, tokens), trace = pruned(generated, get_method("hiprune"), model, inputs, budget=SHARE)
    prefill = trace.prefills[-1]
    scores = [received_by_tokens(model, inputs, layer) for layer in (0, 2)]
    images, expected = iter(zip(*scores, strict=True)), {}
    for row, sizes in enumerate(prefill.sizes):
        kept, first = [], 0
        for segment, count in zip(
            sizes.segments, prefill.plans[row].parameters["tokens"], strict=True
        ):
            objects, registers = next(images)
            kept.append(first + hierarchy(objects, registers, segment.w, count))
            first += segment.tokens
        expected[row] = torch.cat(kept, 1)
    for selection in prefill.selections:
        assert torch.equal(selection.cut.anchors, expected[selection.rows[0]])
    with forbidding(model, kept_by(prefill, inputs)):
        stock, same = generated(model, inputs)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, stock, atol=1e-4, rtol=0)


def received_by_tokens(model, inputs, layer: int) -> list[Tensor]:
    """Of each image, in the order of its tokens: [1, tokens]."""
    calls, (_, orders, _) = [], seen_in_stock(model, inputs)
    with torch.no_grad(), observing({model.model.visual.blocks[layer].attn: calls.append}):
        model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    scores = []
    for own, order in zip(calls, orders, strict=True):
        weights = (own.queries @ own.keys.transpose(-1, -2) * own.scaling).softmax(-1)
        of_tokens = weights.mean((1, 2)).unflatten(1, (-1, 4)).mean(-1)
        scores.append(of_tokens[:, order.argsort()])
    return scores


def test_patches_in_the_order_of_the_tower_are_others(monkeypatch, batch):
    model, inputs = batch
    _, right = pruned(generated, ZIP, model, inputs, budget=SHARE)
    monkeypatch.setattr(
        WindowedQwenVLAdapter, "tower_order", lambda self, own: torch.arange(own.tokens)
    )
    _, wrong = pruned(generated, ZIP, model, inputs, budget=SHARE)
    chosen = [
        torch.cat([selection.cut.anchors for selection in trace.prefills[-1].selections], 1)
        for trace in (right, wrong)
    ]
    assert not torch.equal(*chosen)


def test_what_keeps_the_last_call_of_the_tower_is_found_out(monkeypatch, batch):
    def last(self):
        def keep(attended):
            self.calls[2]["image"] = [attended]

        return {self.adapter.attention(self.adapter.seeing_layer(2)): keep}

    monkeypatch.setattr(MergedWatch, "observers", last)
    with pytest.raises(MechanismError, match="showed other patches than the images have"):
        pruned(generated, ZIP, *batch, budget=SHARE)


def test_received_attention_is_the_same_in_parts(monkeypatch):
    own = QueriesKeys(noise(2, 4, 10, 8), noise(2, 4, 10, 8, seed=2), 0.5)
    rows = torch.arange(10).expand(2, -1)
    whole = own.attention(rows, None).mean(2)
    torch.testing.assert_close(own.received(), whole)
    monkeypatch.setattr(attention, "MOST_WEIGHTS", 4 * 10 * 3)
    torch.testing.assert_close(own.received(), whole)


def test_a_tower_that_ends_in_windows_is_refused(monkeypatch, batch):
    model, inputs = batch
    monkeypatch.setattr(model.config.vision_config, "fullatt_block_indexes", [0])
    with pytest.raises(PruningError, match="last layer of the vision tower attends within windows"):
        pruned(generated, ZIP, model, inputs, budget=SHARE)


def test_hiprune_wants_a_middle_layer_that_sees_the_image(monkeypatch, batch):
    model, inputs = batch
    monkeypatch.setattr(model.config.vision_config, "fullatt_block_indexes", [2])
    with pytest.raises(PruningError, match="layer 0 of the vision tower attends within"):
        pruned(generated, get_method("hiprune"), model, inputs, budget=SHARE)
