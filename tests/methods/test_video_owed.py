"""What every method owes, on videos."""

from __future__ import annotations

from copy import deepcopy
from itertools import product

import pytest
import torch
from forbidden_keys import SHARE, generated, holds_its_promise, pruned
from tiny_families import FAMILIES, IMAGE, VIDEO, alone
from video_methods import BY_FRAME, FASTVID, IN_DECODER, MERGING, OF_TOWER, cut_of, share_of
from video_prompts import BOTH, OWN_VIDEOS

from methods import Budget, get_method

ALL = {**IN_DECODER, **MERGING, **BY_FRAME, "vitcop": get_method("vitcop")}
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
