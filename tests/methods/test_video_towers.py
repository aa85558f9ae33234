"""What a vision tower shows of the frames of videos, and what methods make of it."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from forbidden_keys import generated, holds_its_promise, pruned, visual_places
from published_runs import recorded
from tiny_families import FAMILIES, alone, noise
from torch import Tensor
from video_methods import (
    BY_FRAME,
    FASTVID,
    MERGING,
    OF_TOWER,
    ON_ONE_AXIS,
    cut_of,
    images_stay,
    in_order,
    share_of,
)
from video_prompts import BOTH, OWN_VIDEOS

from baselines.fastvid import compressed
from baselines.holov import most_attended_by_run
from baselines.scope import most_covering
from baselines.visionzip import zip_tokens
from baselines.vispruner import important_and_diverse
from methods import Budget, MechanismError, PruningError, get_method
from methods.adapters import adapter_for
from methods.clips import clips_of
from methods.interface import Cut, Positions
from methods.merged_tower import MergedWatch
from methods.recording import observing
from methods.tensors import apply_cut, best_in_order


def of_stock_tower(family: str, row: int, asking: str = "all") -> tuple[Tensor, Tensor]:
    """What each token of a prompt's frames receives of all rows of the tower, or of its CLS row if
    any, [F, T], and its key [F, T, width]: by the stock tower and the model's own pooling.
    """
    model, inputs = FAMILIES[family]()
    adapter, calls = adapter_for(model), []
    layer = adapter.attention(adapter.tower_layers[adapter.feature_place])
    with torch.no_grad(), observing({layer: calls.append}):
        adapter.tower(inputs["pixel_values_videos"][row])
    (own,) = calls
    weights = (own.queries @ own.keys.transpose(-1, -2) * own.scaling).softmax(-1)
    if asking == "cls" and adapter.has_cls:
        weights = weights[:, :, :1]
    rows = torch.cat([weights.mean((1, 2))[..., None], own.keys.transpose(1, 2).flatten(2)], 2)
    pooled = {
        "onevision_videos": lambda: torch.cat(
            # its pooling takes maps as wide as its features only
            [model.model.apply_pooling(column) for column in rows.split(1, 2)],
            2,
        ),
        "llava_next_video": lambda: model.model.vision_resampler(rows[:, 1:]),
        "video_llava": lambda: rows,
    }[family]()
    return pooled[..., 0], pooled[..., 1:]


@pytest.mark.parametrize("family", ["onevision_videos", "llava_next_video", "video_llava"])
def test_what_is_shown_of_a_frames_tokens_is_pooled_as_they_are(family):
    model, inputs = FAMILIES[family]()
    seen: dict[str, tuple] = {}
    own = alone(inputs, 0, OWN_VIDEOS[family][0])
    pruned(generated, recorded(FASTVID, seen), model, own, budget=share_of(family))
    view, _ = seen["compress"]
    received, _ = of_stock_tower(family, 0)
    found = view.carry["attention"][0, : received.numel()]
    torch.testing.assert_close(found, received.flatten(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "name"), [*product(OF_TOWER, MERGING), ("internvl_frames", "fastvid")]
)
def test_what_is_merged_is_what_the_model_goes_on_with(family, name):
    """Prompt by prompt: the stock text model on what the cuts make of its embeddings."""
    model, inputs = FAMILIES[family]()
    entering: list[dict] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: entering.append(kwargs), with_kwargs=True
    )
    generated(model, inputs)
    handle.remove()
    method = MERGING[name]
    (logits, _), trace = pruned(generated, method, model, inputs, budget=share_of(family))
    prefill = trace.prefills[-1]
    contiguous = prefill.plans[0].decoder[0].positions is Positions.CONTIGUOUS
    assert all(selection.cut.merges for selection in prefill.selections)
    for row, kept in enumerate(in_order(prefill, inputs)):
        hidden = entering[0]["inputs_embeds"][row].clone()
        visual = visual_places(inputs)[row].nonzero()[:, 0]
        cut = cut_of(prefill, row)
        hidden[visual[cut.anchors[0]]] = apply_cut(hidden[None, visual], cut)[0]
        places = entering[0]["position_ids"][..., row, kept]
        places = places[-3:, None] if places.dim() == 2 else places[None]
        if contiguous:
            places = torch.arange(len(kept))[None]
        with torch.no_grad():
            out = model.get_decoder()(inputs_embeds=hidden[None, kept], position_ids=places)
            expected = model.lm_head(out.last_hidden_state[0, -1])
        torch.testing.assert_close(logits[row, 0], expected, atol=1e-4, rtol=0)


def zipped(family: str, row: int, prefill) -> list[Cut]:
    """VisionZip's cut of each of a prompt's frames, by the stock tower."""
    attention, keys = of_stock_tower(family, row, "cls")
    if family == "video_llava":
        attention[..., 0] = float("inf")
    counts = zip(
        *(prefill.plans[row].parameters[n] for n in ("dominant", "contextual")), strict=True
    )
    metric = keys.unflatten(-1, (2, -1)).mean(2)
    return [
        zip_tokens(score[None], own[None], dominant, contextual)
        for score, own, (dominant, contextual) in zip(attention, metric, counts, strict=True)
    ]


@pytest.mark.parametrize("family", ["onevision_videos", "llava_next_video", "video_llava"])
def test_visionzip_zips_frame_by_frame(family):
    model, inputs = FAMILIES[family]()
    method = get_method("visionzip")
    _, trace = pruned(generated, method, model, inputs, budget=share_of(family))
    holds_its_promise(trace)
    prefill = trace.prefills[-1]
    for row, sizes in enumerate(prefill.sizes):
        cut, (clip,) = cut_of(prefill, row), clips_of("", sizes)
        found = cut.anchors[0][(cut.anchors[0] >= clip.start) & (cut.anchors[0] < clip.end)]
        frames = zipped(family, row, prefill)
        expected = [own.anchors[0] + i * clip.tokens for i, own in enumerate(frames)]
        assert torch.equal(found - clip.start, torch.cat(expected))
        assert images_stay(prefill, row)


CHOICES = {
    **dict.fromkeys(("fastervlm", "hired"), lambda score, hidden, n: best_in_order(score, n)),
    "holov": lambda score, hidden, n: most_attended_by_run(score, n),
    "vispruner": lambda score, hidden, n: important_and_diverse(
        score[:, None], hidden, n // 2, n - n // 2
    ),
    "scope": lambda score, hidden, n: most_covering(hidden, score, n),
}
"""What each keeps of an image, by what CLS attends to, and by what features stand for."""


@pytest.mark.parametrize(("family", "name"), product(ON_ONE_AXIS[:3], BY_FRAME))
def test_of_each_frame_is_kept_what_is_kept_of_an_image(family, name):
    model, inputs = FAMILIES[family]()
    entering: list[Tensor] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: entering.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    generated(model, inputs)
    handle.remove()
    method, share, cls = get_method(name), share_of(family), int(family == "video_llava")
    _, trace = pruned(generated, method, model, inputs, budget=share)
    holds_its_promise(trace)
    prefill = trace.prefills[-1]
    for row, sizes in enumerate(prefill.sizes):
        (clip,), anchors = clips_of("", sizes), cut_of(prefill, row).anchors[0]
        found = anchors[(anchors >= clip.start) & (anchors < clip.end)] - clip.start
        hidden = clip.of(entering[0][row, visual_places(inputs)[row]][None])[0]
        score, _ = of_stock_tower(family, row, "cls")
        counts = prefill.plans[row].parameters["tokens"]
        expected = []
        for i, tokens in enumerate(counts):
            chosen = CHOICES[name](score[i : i + 1, cls:], hidden[i : i + 1, cls:], tokens)
            expected.append(i * clip.tokens + cls + chosen[0].sort().values)
        assert torch.equal(found, torch.cat(expected))
        assert len(anchors) - len(found) == sizes.tokens - clip.size
        assert images_stay(prefill, row)
        assert abs(prefill.plans[row].mean_entering - share.of(sizes.tokens)) <= 1


@pytest.mark.parametrize("name", BY_FRAME)
def test_equal_frames_keep_the_same_places(name):
    model, inputs = FAMILIES["onevision_videos"]()
    pixels = inputs["pixel_values_videos"][:, :1].repeat(1, 6, 1, 1, 1)
    inputs = {**inputs, "pixel_values_videos": pixels}
    _, trace = pruned(generated, get_method(name), model, inputs, budget=Budget(6 * 4 + 1))
    for row in range(2):
        kept = cut_of(trace.prefills[-1], row).anchors[0]
        frames = kept[:-1].unflatten(0, (6, 4)) - 9 * torch.arange(6)[:, None]
        assert kept[-1] == 6 * 9
        assert (frames == frames[0]).all()
        assert frames[0].tolist() == sorted(set(frames[0].tolist()) & set(range(9)))


WITHOUT_IMAGES = [("onevision_videos", 0), ("llava_next_video", 1), ("video_llava", 0)]


@pytest.mark.parametrize(("family", "row"), WITHOUT_IMAGES)
def test_vitcop_cuts_frame_by_frame_and_then_all_together(family, row):
    model, inputs = FAMILIES[family]()
    own, share, seen = alone(inputs, row, OWN_VIDEOS[family][row]), Budget(fraction=0.3), {}
    method = get_method("vitcop", cluster_share=0.5)
    _, trace = pruned(generated, recorded(method, seen), model, own, budget=share)
    holds_its_promise(trace)
    (prefill,) = trace.prefills
    (sizes,), (plan,) = prefill.sizes, prefill.plans
    _, vision = seen["vision"]
    attention, _ = of_stock_tower(family, row, "cls")
    (segment,), cls = sizes.segments, int(family == "video_llava")
    frames = range(segment.t)
    end = segment.tokens - segment.t * segment.frame_tokens
    each = (plan.entering[0] - end) // segment.t
    best = attention[:, cls:].topk(each).indices.sort(1).values + cls
    expected = torch.cat([best[i] + i * segment.frame_tokens for i in frames])
    kept, labels = vision.cut.anchors[0], vision.visual["labels"][0]
    assert torch.equal(kept[: len(expected)], expected)
    assert kept[len(expected) :].tolist() == [segment.tokens - 1] * end
    clusters = [set(labels[i * each : (i + 1) * each].tolist()) for i in frames]
    clusters.append(set(labels[len(expected) :].tolist()))
    assert sum(map(len, clusters)) == len(set().union(*clusters))
    assert any(len(own) < each for own in clusters[:-1])
    assert abs(plan.mean_entering - share.of(sizes.tokens)) <= 1


def test_vitcop_keeps_the_positions_of_three_axes():
    model, inputs = FAMILIES["qwen2_5_vl_both"]()
    together, trace = pruned(generated, get_method("vitcop"), model, inputs)
    holds_its_promise(trace)
    for row, its in BOTH["qwen2_5_vl_both"].items():
        own = alone(inputs, row, its)
        (logits, tokens), _ = pruned(generated, get_method("vitcop"), model, own)
        assert torch.equal(tokens[0], together[1][row])
        torch.testing.assert_close(logits[0], together[0][row], atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["llava_next_video", "video_llava"])
def test_vitcop_is_refused_for_images_beside_videos(family):
    model, inputs = FAMILIES[family]()
    with pytest.raises(PruningError, match="is not defined here for images beside videos"):
        pruned(generated, get_method("vitcop"), model, inputs)


@pytest.mark.parametrize("family", ["qwen2_vl_video", "qwen3_vl_video"])
def test_fastvid_is_refused_where_the_tower_does_not_show_its_frames(family):
    model, inputs = FAMILIES[family]()
    with pytest.raises(PruningError, match="FastVID is not defined here for"):
        pruned(generated, FASTVID, model, inputs)


def test_an_image_and_a_video_pass_one_tower():
    """The video's frames are seen in the tower's second call."""
    model, inputs = FAMILIES["qwen2_5_vl_both"]()
    first, second = (alone(inputs, row, its) for row, its in BOTH["qwen2_5_vl_both"].items())
    together, _ = pruned(generated, FASTVID, model, inputs, budget=Budget(fraction=0.6))
    for row, own in enumerate((first, second)):
        (logits, tokens), _ = pruned(generated, FASTVID, model, own, budget=Budget(fraction=0.6))
        assert torch.equal(tokens[0], together[1][row])
        torch.testing.assert_close(logits[0], together[0][row], atol=1e-4, rtol=0)


@pytest.mark.parametrize("context", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.93])
def test_fastvid_keeps_what_it_promised_whatever_the_segments(share, context):
    frames, tokens = 7, 12
    features, attention = noise(2, frames, tokens, 16), noise(2, frames, tokens, seed=2)
    for fewest in (1, 3, 7):
        for threshold in (-1.0, 0.2, 1.0):
            method = get_method(
                "fastvid", context=context, segments=fewest, threshold=threshold, step=4
            )
            total = int(share * frames * tokens)
            cut = compressed(features, attention, method, total)
            assert cut.anchors.shape == (2, total)
            ordered = cut.anchors.sort(1).values
            assert (ordered[:, 1:] > ordered[:, :-1]).all()
            if cut.weights is not None:
                made = ~cut.add_anchor
                torch.testing.assert_close(cut.weights.sum(2)[made], torch.ones(int(made.sum())))


def test_a_tower_whose_calls_are_not_told_apart_is_found_out(monkeypatch):
    """The video's call would stand for the image's, or the other way round."""
    watch = MergedWatch.__init__

    def of_one_kind(self, adapter, reads, kind):
        watch(self, adapter, reads, lambda: "video")

    monkeypatch.setattr(MergedWatch, "__init__", of_one_kind)
    model, inputs = FAMILIES["qwen2_5_vl_both"]()
    with pytest.raises(MechanismError, match="showed other patches than the images have"):
        pruned(generated, FASTVID, model, inputs, budget=share_of(""))


def test_another_pooling_than_that_of_features_chooses_others(monkeypatch):
    """Planted: a corner of each frame in the place of its pooled tokens."""
    model, inputs = FAMILIES["onevision_videos"]()
    _, right = pruned(generated, MERGING["visionzip"], model, inputs)
    monkeypatch.setattr(
        type(adapter_for(model)), "pooled", lambda self, maps: maps[..., :3, :3].contiguous()
    )
    _, wrong = pruned(generated, MERGING["visionzip"], model, inputs)
    chosen = [cut_of(trace.prefills[-1], 0).anchors for trace in (right, wrong)]
    assert not torch.equal(*chosen)
