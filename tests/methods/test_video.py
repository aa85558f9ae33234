"""Methods made for video, and the control of fewer frames, on every family that takes videos."""

from __future__ import annotations

from copy import deepcopy
from fractions import Fraction
from itertools import product

import contract
import pytest
import torch
from forbidden_keys import (
    NEW,
    SHARE,
    forbidding,
    generated,
    holds_its_promise,
    kept_by,
    left_padded_rows,
    pruned,
    visual_places,
)
from published_runs import recorded
from tiny_families import FAMILIES, IMAGE, VIDEO, alone, noise
from torch import Tensor
from tower_methods import FRAMEWISE
from video_prompts import BOTH, OWN_VIDEOS

from baselines.fastvid import compressed
from baselines.frames import evenly
from baselines.holov import most_attended_by_run
from baselines.scope import most_covering
from baselines.visionzip import zip_tokens
from baselines.vispruner import important_and_diverse
from methods import Budget, InfeasibleBudgetError, MechanismError, PruningError, get_method
from methods.adapters import adapter_for
from methods.clips import clips_of
from methods.interface import Crops, Cut, Newline, Positions, Segment, Sizes
from methods.merged_tower import MergedWatch
from methods.recording import observing
from methods.tensors import apply_cut, best_in_order

ON_ONE_AXIS = (
    *("onevision_videos", "llava_next_video", "video_llava"),
    "internvl_frames",
)
ON_AXES = ("qwen2_vl_video", "qwen2_5_vl_video", "qwen2_5_vl_both", "qwen3_vl_video")
FRAMES, CPU = Segment(2, 3, 4, "video"), torch.device("cpu")


FASTVID = get_method("fastvid", segments=3, threshold=0.5, context=0.6)


MERGING = {"fastvid": FASTVID, "visionzip": get_method("visionzip")}


def share_of(family: str) -> Budget:
    """One that all can meet: an image beside a video stays whole."""
    beside_images = {"llava_next_video": 0.9, "qwen3_vl_video": 0.84}
    return Budget(fraction=beside_images.get(family, 0.75))


IN_DECODER = {
    "vidcom2": get_method("vidcom2"),
    "frames": get_method("frames"),
    "dycoke": get_method("dycoke"),
    "dycoke:raster": get_method("dycoke", raster=True),
}


OF_TOWER = ("onevision_videos", "llava_next_video", "video_llava", "qwen2_5_vl_video")
"""Families of whose frames the tower shows what their tokens receive."""


# --- which tokens are frames --------------------------------------------------------------------


def clips(*segments: Segment) -> list[tuple[int, int, int]]:
    found = clips_of("Some", Sizes(4, segments))
    return [(clip.start, clip.frames, clip.tokens) for clip in found]


def test_a_clip_is_the_frames_of_a_video():
    image, tile = Segment(3, 3), Segment(2, 2)
    assert clips(FRAMES) == [(0, 4, 6)]
    assert clips(image, FRAMES, image, FRAMES) == [(9, 4, 6), (42, 4, 6)]
    of_qwen3 = [Segment(2, 3, 1, "video", frame=i) for i in (0, 1, 2, 0, 1)]
    assert clips(image, *of_qwen3) == [(9, 3, 6), (27, 2, 6)]
    newline = Segment(2, 3, 2, "video", newline=Newline.END)
    assert clips(newline, newline) == [(0, 2, 6), (13, 2, 6)]
    assert clips(Segment(2, 3, 2, "video", newline=Newline.FRAME)) == [(0, 2, 7)]
    assert clips(tile, tile, image, tile) == [(0, 2, 4), (8, 1, 9), (17, 1, 4)]


@pytest.mark.parametrize(
    "segment",
    [
        Segment(4, 4, crops=Crops(2, 2, 2)),
        Segment(2, 2, newline=Newline.END),
        Segment(2, 2, resampled=True),
    ],
)
def test_pictures_of_crops_are_no_frames(segment):
    with pytest.raises(PruningError, match="Some is not defined here for pictures of crops"):
        clips(Segment(2, 2), segment)
    assert clips(segment, FRAMES) == [(segment.tokens, 4, 6)]


def test_a_method_may_need_frames():
    one = Sizes(4, (Segment(6, 6),))
    with pytest.raises(InfeasibleBudgetError, match="DyCoke cannot meet 20 visual tokens"):
        get_method("dycoke").plan(Budget(20), one)


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IN_DECODER)
@pytest.mark.parametrize("frames", [2, 4, 5, 8, 31, 32])
def test_budgets_in_the_feasible_range_are_met_exactly(name, frames):
    image = Segment(5, 5)
    sizes = Sizes(4, (image, Segment(4, 4, frames, "video", newline=Newline.END)))
    method = IN_DECODER[name]
    low, high = method.feasible(sizes)
    assert low > 25
    for budget in {low, (low + high) // 2, high - 1}:
        assert method.plan(Budget(budget), sizes).mean_entering == budget


@pytest.mark.parametrize(("frames", "low"), [(32, 9 * 196 + 23), (8, 3 * 196 + 5)])
def test_the_least_that_dycoke_keeps(frames, low):
    sizes = Sizes(28, (Segment(14, 14, frames, "video"),))
    assert get_method("dycoke").feasible(sizes)[0] == low


def test_fewer_frames_are_spread_evenly():
    assert evenly(4, 8, CPU).tolist() == [1, 3, 5, 7]
    assert evenly(3, 8, CPU).tolist() == [1, 4, 6]
    assert evenly(1, 5, CPU).tolist() == [2]
    assert evenly(5, 5, CPU).tolist() == [0, 1, 2, 3, 4]
    assert evenly(0, 5, CPU).tolist() == []


# --- on the models ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*ON_ONE_AXIS, *ON_AXES])
@pytest.mark.parametrize("name", IN_DECODER)
def test_every_layer_gets_what_was_promised(family, name):
    model, inputs = FAMILIES[family]()
    share = share_of(family)
    _, trace = pruned(generated, IN_DECODER[name], model, inputs, budget=share)
    holds_its_promise(trace)
    prefill = trace.prefills[-1]
    assert prefill.selections
    for row, sizes in enumerate(prefill.sizes):
        mean = Fraction(int(prefill.entering[row].sum()), sizes.layers)
        assert abs(mean - share.of(sizes.tokens)) <= 1
        assert images_stay(prefill, row)


def images_stay(prefill, row: int) -> bool:
    """Whether what is in no clip was kept whole."""
    sizes = prefill.sizes[row]
    staying = torch.ones(sizes.tokens, dtype=torch.bool)
    for clip in clips_of("", sizes):
        staying[clip.start : clip.end] = False
    return set(staying.nonzero()[:, 0].tolist()) <= set(cut_of(prefill, row).anchors[0].tolist())


def test_a_picture_of_crops_alone_is_refused():
    model, inputs = FAMILIES["onevision_with_video"]()
    with pytest.raises(PruningError, match="VidCom2 is not defined here for pictures of c"):
        pruned(generated, get_method("vidcom2"), model, inputs)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *product(ON_AXES, ["vidcom2", "frames", "dycoke:raster"]),
        *product(["qwen2_5_vl_video", "qwen2_5_vl_both"], FRAMEWISE),
    ],
)
def test_removed_frames_are_those_that_the_stock_model_may_not_see(family, name):
    """Where positions stay as they were."""
    model, inputs = FAMILIES[family]()
    share = share_of(family)
    (logits, tokens), trace = pruned(generated, ALL[name], model, inputs, budget=share)
    with forbidding(model, kept_by(trace.prefills[-1], inputs)):
        expected, same = generated(model, inputs)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - generated(model, inputs)[0]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("family", "name"), [*product(ON_ONE_AXIS, IN_DECODER), *product(ON_ONE_AXIS[:3], FRAMEWISE)]
)
def test_what_is_left_is_a_shorter_prompt_in_its_order(family, name):
    """Before layer 0 with contiguous positions: the stock model on those embeddings."""
    model, inputs = FAMILIES[family]()
    entering: list[Tensor] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: entering.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    share = share_of(family)
    (logits, tokens), trace = pruned(generated, ALL[name], model, inputs, budget=share)
    generated(model, inputs)
    handle.remove()
    rows = [
        hidden[own]
        for hidden, own in zip(entering[-NEW], in_order(trace.prefills[-1], inputs), strict=True)
    ]
    expected, same = generated(model, left_padded_rows(rows))
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def cut_of(prefill, row: int) -> Cut:
    """A prompt's only cut."""
    ((at, cut),) = (
        (selection.rows.index(row), selection.cut)
        for selection in prefill.selections
        if row in selection.rows
    )
    parts = (cut.anchors, cut.groups, cut.add_anchor, cut.weights)
    return Cut(*(None if part is None else part[at : at + 1] for part in parts))


def in_order(prefill, inputs) -> list[Tensor]:
    """Places of each prompt that are left, in the order in which they follow one another."""
    found = []
    for row, visual in enumerate(visual_places(inputs)):
        places = visual.nonzero()[:, 0][cut_of(prefill, row).anchors[0]]
        text = (~visual & inputs["attention_mask"][row].bool()).nonzero()[:, 0]
        # a row follows everything up to the furthest of those before it
        after = torch.cat([text, places.cummax(0).values])
        found.append(torch.cat([text, places])[after.argsort(stable=True)])
    return found


@pytest.mark.parametrize(
    ("family", "tokens", "newline"),
    [("onevision_videos", 9, 1), ("llava_next_video", 4, 0), ("video_llava", 17, 0)],
)
def test_fewer_frames_are_a_video_of_fewer_frames(family, tokens, newline):
    model, inputs = FAMILIES[family]()
    row = {"video_llava": 0}.get(family, 1)
    whole = alone(inputs, row, {"pixel_values_videos": slice(row, row + 1)})
    pixels = whole["pixel_values_videos"]
    kept = evenly(2, pixels.shape[1], CPU)
    budget = Budget(2 * tokens + newline)
    (logits, said), _ = pruned(generated, get_method("frames"), model, whole, budget=budget)
    gone = visual_places(whole)[0].nonzero()[: tokens * (pixels.shape[1] - 2), 0]
    left = torch.ones(whole["input_ids"].shape[1], dtype=torch.bool)
    left[gone] = False
    shorter = {
        "input_ids": whole["input_ids"][:, left],
        "attention_mask": whole["attention_mask"][:, left],
        "pixel_values_videos": pixels[:, kept],
    }
    expected, same = generated(model, shorter)
    assert torch.equal(said, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", IN_DECODER)
def test_kernels_agree(name):
    model, inputs = FAMILIES["onevision_videos"]()
    (logits, _), trace = pruned(generated, IN_DECODER[name], model, inputs)
    model.set_attn_implementation("eager")
    try:
        (others, _), again = pruned(generated, IN_DECODER[name], model, inputs)
    finally:
        model.set_attn_implementation("sdpa")
    torch.testing.assert_close(logits, others, atol=1e-4, rtol=0)
    contract.assert_same_selections(trace, again)


# --- what the tower shows of frames -------------------------------------------------------------


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


@pytest.mark.parametrize(("family", "name"), product(ON_ONE_AXIS[:3], FRAMEWISE))
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


@pytest.mark.parametrize("name", FRAMEWISE)
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


# --- what every method owes, on videos ----------------------------------------------------------

ALL = {
    **{**IN_DECODER, **MERGING, "vitcop": get_method("vitcop")},
    **{name: get_method(name) for name in FRAMEWISE},
}
ALONE = {**OWN_VIDEOS, **BOTH}
SHOWN = (*OF_TOWER, "qwen2_5_vl_both")
OWED = [
    (family, name) for family, name in product(ALONE, ALL) if name in IN_DECODER or family in SHOWN
]
BESIDE_IMAGES = [("llava_next_video", "vitcop"), ("video_llava", "vitcop")]


@pytest.mark.parametrize(("family", "name"), [own for own in OWED if own not in BESIDE_IMAGES])
def test_a_batch_gives_what_its_prompts_give_alone(family, name):
    model, inputs = FAMILIES[family]()
    share = SHARE if name == "vitcop" else share_of(family)  # it cannot keep more
    (together, tokens), trace = pruned(generated, ALL[name], model, inputs, budget=share)
    for row, its in ALONE[family].items():
        own = alone(inputs, row, its)
        (logits, same), single = pruned(generated, ALL[name], model, own, budget=share)
        assert torch.equal(tokens[row : row + 1], same)
        torch.testing.assert_close(together[row : row + 1], logits, atol=1e-4, rtol=0)
        assert torch.equal(trace.prefills[-1].entering[row], single.prefills[-1].entering[0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_counts(name, dtype):
    model, inputs = FAMILIES["onevision_videos"]()
    half = deepcopy(model).to(dtype)
    pixels = {"pixel_values_videos": inputs["pixel_values_videos"].to(dtype)}
    (logits, _), trace = pruned(generated, ALL[name], half, {**inputs, **pixels})
    holds_its_promise(trace)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(ALL) - {"vitcop"}))
def test_the_same_without_a_cache(name):
    """Where positions are contiguous they depend on the text, which grows with every token."""
    model, inputs = FAMILIES["qwen2_5_vl_video"]()
    inputs = {**inputs, "suppress_tokens": [IMAGE, VIDEO]}
    (logits, _), _ = pruned(generated, ALL[name], model, inputs, budget=share_of(""))
    with pytest.warns(UserWarning, match="pruned anew for every new token"):
        (plain, _), _ = pruned(
            generated, ALL[name], model, {**inputs, "use_cache": False}, budget=share_of("")
        )
    torch.testing.assert_close(logits, plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_keeping_everything_changes_nothing(name):
    model, inputs = FAMILIES["onevision_videos"]()
    plain, _ = generated(model, inputs)
    (kept, _), trace = pruned(generated, ALL[name], model, inputs, budget=Budget(fraction=1))
    assert torch.equal(plain, kept)
    assert not trace.prefills[-1].selections


@pytest.mark.parametrize("family", ["onevision_videos", "video_llava", "qwen2_5_vl_both"])
def test_beams_share_the_video_of_their_prompt(family):
    model, inputs = FAMILIES[family]()

    def searched(model, inputs):
        return model.generate(**inputs, max_new_tokens=3, num_beams=2, num_return_sequences=2)

    share = share_of(family)
    _, single = pruned(generated, FASTVID, model, inputs, budget=share)
    _, trace = pruned(searched, FASTVID, model, inputs, budget=share)
    for row in range(2):
        expected = cut_of(single.prefills[-1], row).anchors
        for beam in (2 * row, 2 * row + 1):
            assert torch.equal(cut_of(trace.prefills[-1], beam).anchors, expected)


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
