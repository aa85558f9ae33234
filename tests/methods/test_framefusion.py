"""FrameFusion inside the decoder's layers of every family that takes videos, and stages there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import ClassVar

import contract
import numpy as np
import pytest
import torch
from forbidden_keys import forbidding, generated, kept_by, pruned, visual_places
from tiny_families import FAMILIES, alone
from torch import Tensor
from video_prompts import OWN_VIDEOS

from methods import Budget, Method, PruningError, attach, get_method
from methods.adapters import adapter_for
from methods.clips import clips_of
from methods.family import Adapter
from methods.interface import (
    Cut,
    DecoderStage,
    Newline,
    Plan,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.planning import due
from methods.stages import first_rows
from methods.tensors import apply_cut
from methods.trace import Prefill

FUSION = get_method("framefusion")
PRUNING = get_method("framefusion", threshold=2.0)
"""Nothing is as like: nothing merges, and the second layer prunes."""
ON_LLAVA = ("onevision_videos", "llava_next_video", "video_llava", "internvl_frames")
ON_QWEN = ("qwen2_vl_video", "qwen2_5_vl_video", "qwen2_5_vl_both")
FIXTURE = Path(__file__).parents[1] / "fixtures" / "video" / "framefusion.npz"


def share_of(family: str) -> Budget:
    """One that all can meet: an image beside a video stays whole."""
    return Budget(fraction=0.9 if family == "llava_next_video" else 0.6)


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [2, 5, 32])
@pytest.mark.parametrize("layers", [2, 6, 28])
def test_budgets_in_the_feasible_range_are_met_exactly(layers, frames):
    image = Segment(5, 5)
    sizes = Sizes(layers, (image, Segment(4, 4, frames, "video", newline=Newline.END)))
    low, high = FUSION.feasible(sizes)
    fewest = Fraction(sizes.tokens + (layers - 1) * 27, layers)
    assert low - 1 < fewest <= low
    assert high == sizes.tokens
    for budget in {low, (low + high) // 2, high - 1}:
        assert FUSION.plan(Budget(budget), sizes).mean_entering == budget


def test_what_is_due_is_rounded_so_that_the_sum_comes_out():
    assert due(100, [50], 50, 6) == 40
    assert due(102, [50], 50, 6) == 39
    entered = [50]
    for _ in range(5):
        entered.append(entered[-1] - due(102, entered, entered[-1], 6))
    assert entered == [50, 11, 11, 10, 10, 10]
    assert due(102, entered, 10, 6) == 0


def holds_its_sum(prefill: Prefill) -> None:
    assert torch.equal(prefill.entering.sum(1), prefill.planned.sum(1))
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])
    left = torch.cat([prefill.entering[:, 1:], prefill.entering[:, -1:]], 1)
    assert torch.equal(prefill.into_mlp, left)


@pytest.mark.parametrize("family", [*ON_LLAVA, *ON_QWEN])
def test_all_layers_together_get_what_was_promised(family):
    """Also at the least that can be asked for, where data may not decide much."""
    model, inputs = FAMILIES[family]()
    lowest = Budget(max(FUSION.feasible(sizes)[0] for sizes in sizes_of(model, inputs)))
    for budget in (share_of(family), lowest):
        with torch.no_grad(), attach(model, FUSION, budget) as trace:
            model(**inputs, use_cache=True)
        (prefill,) = trace.prefills
        holds_its_sum(prefill)
        for sizes, own in zip(prefill.sizes, prefill.entering.tolist(), strict=True):
            assert own[0] == sizes.tokens
            assert own == sorted(own, reverse=True)
            wanted = min(budget.of(sizes.tokens), sizes.tokens)
            assert abs(Fraction(sum(own), sizes.layers) - wanted) <= Fraction(1, 2 * sizes.layers)


def sizes_of(model, inputs) -> Sequence[Sizes]:
    with torch.no_grad(), attach(model, get_method("unpruned"), Budget(1)) as trace:
        model(**inputs)
    return trace.prefills[0].sizes


@pytest.mark.parametrize("cost", ["0.3", "0.5", "0.15"])
def test_counts_are_the_published_codes_at_its_cost(cost):
    """Of 28 layers: B is the mean of what the published code lets enter them."""
    with np.load(FIXTURE) as stored:
        features = torch.from_numpy(stored["a/features"])
        text = len(stored["a/before"]) + len(stored["a/after"])
        runs = [f"a/framefusion-{cost}/{layer}" for layer in range(3)]
        published = [stored[f"{run}/kept"] for run in runs]
        weights = torch.from_numpy(stored[f"{runs[-1]}/attention"])[:, :, -1]
    counts = [288, *(len(own) - text for own in published)]
    total = sum(counts[:3]) + 25 * counts[3]
    sizes = Sizes(28, (Segment(6, 6, 8, "video"),))
    threshold = {"0.3": 0.6, "0.5": 0.8, "0.15": 0.95}[cost]
    plan = get_method("framefusion", threshold=threshold).solve(Fraction(total, 28), sizes)
    view = View(288, torch.zeros(1, 288, dtype=torch.long), entered=(288,))
    hidden, rows = features.flatten(0, 1)[None], torch.arange(288)[None]
    for stage, kept in zip(plan.decoder, published, strict=False):
        attention = torch.ones(1, 4, view.count)
        if stage.layer == 2:
            attention = weights[..., 5:-7]
        reads = {Read.HIDDEN: hidden, Read.LAST_ATTENTION: attention}
        selection = stage.select(replace(view, reads=reads))
        count = int(selection.cut.counts)
        selection = first_rows(selection, count, view.count)
        if selection.cut is not None:
            hidden = apply_cut(hidden, selection.cut)
            rows = rows.gather(1, selection.cut.anchors)
        assert (rows[0] + 5).tolist() == kept[5:-7].tolist()
        view = replace(view, count=count, segments=view.segments[:, :count], carry=selection.visual)
        view = replace(view, entered=(*view.entered, count))
    assert due(total, view.entered, view.count, 28) == 0


# --- on the models ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*ON_LLAVA, *ON_QWEN])
def test_removed_tokens_are_those_that_the_stock_model_may_not_see(family):
    """From the layer after the one whose MLP does not get them; also by new tokens."""
    model, inputs = FAMILIES[family]()
    (logits, tokens), trace = pruned(generated, PRUNING, model, inputs, budget=share_of(family))
    holds_its_sum(trace.prefills[-1])
    kept = kept_by(trace.prefills[-1], inputs)
    assert min(kept) == 2
    with forbidding(model, kept):
        expected, same = generated(model, inputs)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - generated(model, inputs)[0]).abs().max() > 0.01


@pytest.mark.parametrize("family", OWN_VIDEOS)
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_what_is_merged_goes_on_inside_its_layer(family, share):
    """Prompt by prompt: the stock layers' parts by hand, on what the cuts make between them."""
    model, inputs = FAMILIES[family]()
    budget = Budget(fraction=share) if family != "llava_next_video" else share_of(family)
    merging = 0
    for row, its in OWN_VIDEOS[family].items():
        own = alone(inputs, row, its)
        (logits, _), trace = pruned(generated, FUSION, model, own, budget=budget)
        (cuts,) = [trace.prefills[-1].selections]
        merging += sum(bool((c.cut.groups >= 0).all()) for c in cuts)
        expected = by_hand(model, own, {c.layer: c.cut for c in cuts})
        torch.testing.assert_close(logits[0, 0], expected, atol=1e-4, rtol=0)
    assert merging


def by_hand(model, inputs, cuts: dict[int, Cut]) -> Tensor:
    """Logits of a prompt's last row, cut by `cuts` before the MLP of the layer before each."""
    text_model = model.get_decoder()
    hidden, rotary = entering(model, inputs)
    visual = visual_places(inputs)[0]
    with torch.no_grad():
        for i, layer in enumerate(text_model.layers):
            states = layer.input_layernorm(hidden)
            attended = layer.self_attn(states, position_embeddings=rotary, attention_mask=None)
            hidden = hidden + attended[0]
            if cut := cuts.get(i + 1):
                places = visual.nonzero()[:, 0]
                hidden[0, places[cut.anchors[0]]] = apply_cut(hidden[:, places], cut)[0]
                left = ~visual
                left[places[cut.anchors[0]]] = True
                hidden, visual = hidden[:, left], visual[left]
                rotary = tuple(part[:, left] for part in rotary)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return model.lm_head(text_model.norm(hidden[0, -1]))


def entering(model, inputs) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """States and rotary angles of a prompt at layer 0."""
    seen = []
    handle = (
        model.get_decoder()
        .layers[0]
        .register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args[0], kwargs["position_embeddings"])),
            with_kwargs=True,
        )
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("family", OWN_VIDEOS)
def test_a_padded_batch_gives_what_its_prompts_give_alone(family):
    model, inputs = FAMILIES[family]()
    budget = share_of(family)
    (logits, tokens), trace = pruned(generated, FUSION, model, inputs, budget=budget)
    assert not inputs["attention_mask"].all()
    for row, its in OWN_VIDEOS[family].items():
        (own, said), single = pruned(
            generated, FUSION, model, alone(inputs, row, its), budget=budget
        )
        assert torch.equal(said[0], tokens[row])
        torch.testing.assert_close(own[0], logits[row], atol=1e-4, rtol=0)
        both = trace.prefills[-1].entering[row], single.prefills[-1].entering[0]
        assert torch.equal(*both)


def test_samples_of_equal_sizes_may_go_on_with_unequal_counts():
    model, inputs = FAMILIES["onevision_videos"]()
    _, trace = pruned(generated, FUSION, model, inputs, budget=share_of("onevision_videos"))
    prefill = trace.prefills[-1]
    assert prefill.sizes[0] == prefill.sizes[1]
    assert not torch.equal(prefill.entering[0], prefill.entering[1])


def test_kernels_agree():
    model, inputs = FAMILIES["onevision_videos"]()
    (logits, _), trace = pruned(generated, FUSION, model, inputs)
    model.set_attn_implementation("eager")
    try:
        (others, _), again = pruned(generated, FUSION, model, inputs)
    finally:
        model.set_attn_implementation("sdpa")
    torch.testing.assert_close(logits, others, atol=1e-4, rtol=0)
    contract.assert_same_selections(trace, again)


def test_nothing_is_left_in_the_model():
    model, inputs = FAMILIES["onevision_videos"]()
    before, plain = contract.hooks(model), generated(model, inputs)[0]
    pruned(generated, FUSION, model, inputs)
    assert contract.hooks(model) == before
    assert torch.equal(generated(model, inputs)[0], plain)


def test_images_beside_a_video_stay():
    model, inputs = FAMILIES["llava_next_video"]()
    _, trace = pruned(generated, FUSION, model, inputs, budget=share_of("llava_next_video"))
    prefill = trace.prefills[-1]
    whole = torch.ones(prefill.sizes[0].tokens, dtype=torch.bool)
    for clip in clips_of("", prefill.sizes[0]):
        whole[clip.start : clip.end] = False
    rows = torch.arange(len(whole))
    for selection in prefill.selections:
        if 0 in selection.rows:
            rows = rows[selection.cut.anchors[0]]
    assert whole.any()
    assert set(whole.nonzero()[:, 0].tolist()) <= set(rows.tolist())


def test_tokens_to_which_features_are_added_later_are_not_merged():
    model, inputs = FAMILIES["qwen3_vl_video"]()
    with pytest.raises(PruningError, match="merges tokens, and to each of them features are add"):
        pruned(generated, FUSION, model, inputs, budget=Budget(fraction=0.8))


# --- stages before an MLP -----------------------------------------------------------------------


def first(view: View, tokens: int) -> Selection:
    rows = torch.arange(tokens, device=view.segments.device)
    return Selection(Cut(rows.repeat(len(view.segments), 1)))


@dataclass(frozen=True)
class Inside(Method):
    """Keeps the first four visual tokens, before the MLP of layer 2."""

    name: ClassVar[str] = "inside"
    label: ClassVar[str] = "Inside"
    inside_layers: ClassVar[bool] = True

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        return Plan((sizes.tokens,) * 3 + (4,) * (sizes.layers - 3), decoder=(self.stage(sizes),))

    def stage(self, sizes: Sizes) -> DecoderStage:
        return DecoderStage("first", 2, (), partial(first, tokens=4), before_mlp=True)


@pytest.mark.parametrize("family", ["qwen3_vl_video", "qwen2_vl_video", "video_llava"])
def test_a_layer_caches_what_entered_it_and_its_mlp_works_on_what_is_left(family):
    """Also where features are added behind the layer."""
    model, inputs = FAMILIES[family]()
    rows: list[int] = []
    handle = (
        model.get_decoder()
        .layers[2]
        .mlp.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[1]))
    )
    (logits, tokens), trace = pruned(generated, Inside(), model, inputs)
    handle.remove()
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])
    assert prefill.into_mlp[:, 2].tolist() == [4, 4]
    assert rows[0] == 4 + int(prefill.text.max())
    assert prefill.plans[0].into_mlp == tuple(prefill.into_mlp[0].tolist())
    with forbidding(model, kept_by(prefill, inputs)):
        expected, same = generated(model, inputs)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


class Unsaid(Inside):
    inside_layers: ClassVar[bool] = False


class OfTheNext(Inside):
    def stage(self, sizes):
        return replace(super().stage(sizes), reads=(Read.NEXT_LAST_ATTENTION,))


class Nothing(Inside):
    def stage(self, sizes):
        def none(view: View) -> Selection:
            selection = first(view, 4)
            counts = torch.zeros(len(view.segments), dtype=torch.long)
            return Selection(replace(selection.cut, counts=counts))

        return replace(super().stage(sizes), select=none, by_data=True)


class Short(Inside):
    def stage(self, sizes):
        def short(view: View) -> Selection:
            return Selection(replace(first(view, 4).cut, counts=torch.ones(1)))

        return replace(super().stage(sizes), select=short, by_data=True)


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (Unsaid(), "inside cuts before a layer's MLP; such a method sets inside_layers = True"),
        (OfTheNext(), "stage first reads attention of a layer that has run"),
        (Nothing(), r"stage first before the MLP of layer 2: 1 to \d+ rows can be kept, not 0"),
        (Short(), r"counts are int64 \[1\], not torch.float32 \[1\]"),
    ],
)
def test_stages_that_cannot_be_are_refused(method, sentence):
    model, inputs = FAMILIES["video_llava"]()
    with pytest.raises(PruningError, match=sentence):
        pruned(generated, method, model, inputs)


def test_a_decoder_that_is_built_otherwise_is_not_cut_inside_its_layers(monkeypatch):
    model, inputs = FAMILIES["video_llava"]()
    kind = type(adapter_for(model))
    monkeypatch.setattr(kind, "decoder_mlp", Adapter.decoder_mlp)
    with pytest.raises(PruningError, match="inside its decoder's layers a VideoLlava"):
        pruned(generated, Inside(), model, inputs)
