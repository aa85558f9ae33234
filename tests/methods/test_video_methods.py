"""Methods made for video, and the control of fewer frames, on every family that takes videos."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import contract
import pytest
import torch
from forbidden_keys import (
    NEW,
    forbidding,
    generated,
    holds_its_promise,
    kept_by,
    left_padded_rows,
    pruned,
    visual_places,
)
from tiny_families import FAMILIES, alone
from torch import Tensor
from video_methods import (
    BY_FRAME,
    IN_DECODER,
    ON_AXES,
    ON_ONE_AXIS,
    images_stay,
    in_order,
    share_of,
)

from baselines.frames import evenly
from methods import Budget, PruningError, get_method

CPU = torch.device("cpu")


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


def test_a_picture_of_crops_alone_is_refused():
    model, inputs = FAMILIES["onevision_with_video"]()
    with pytest.raises(PruningError, match="VidCom2 is not defined here for pictures of c"):
        pruned(generated, get_method("vidcom2"), model, inputs)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *product(ON_AXES, ["vidcom2", "frames", "dycoke:raster"]),
        *product(["qwen2_5_vl_video", "qwen2_5_vl_both"], BY_FRAME),
    ],
)
def test_removed_frames_are_those_that_the_stock_model_may_not_see(family, name):
    """Where positions stay as they were."""
    model, inputs = FAMILIES[family]()
    share = share_of(family)
    (logits, tokens), trace = pruned(
        generated, (IN_DECODER | BY_FRAME)[name], model, inputs, budget=share
    )
    with forbidding(model, kept_by(trace.prefills[-1], inputs)):
        expected, same = generated(model, inputs)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - generated(model, inputs)[0]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("family", "name"), [*product(ON_ONE_AXIS, IN_DECODER), *product(ON_ONE_AXIS[:3], BY_FRAME)]
)
def test_what_is_left_is_a_shorter_prompt_in_its_order(family, name):
    """Before layer 0 with contiguous positions: the stock model on those embeddings."""
    model, inputs = FAMILIES[family]()
    entering: list[Tensor] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: entering.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    share = share_of(family)
    (logits, tokens), trace = pruned(
        generated, (IN_DECODER | BY_FRAME)[name], model, inputs, budget=share
    )
    generated(model, inputs)
    handle.remove()
    rows = [
        hidden[own]
        for hidden, own in zip(entering[-NEW], in_order(trace.prefills[-1], inputs), strict=True)
    ]
    expected, same = generated(model, left_padded_rows(rows))
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


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
