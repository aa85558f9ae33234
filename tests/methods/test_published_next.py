"""What the published code does with the crops of LLaVA-NeXT, on the tiny LLaVA made one."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from published_runs import anchors, assert_same_output
from torch import Tensor
from torch.nn.functional import normalize, pad
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from baselines import cdpruner, hired
from baselines.hired import HiRED, shares_of_crops
from methods import Budget, attach, get_method
from methods.tensors import first_true

IMAGE = 319


@pytest.fixture(scope="module")
def tiny_next() -> LlavaNextForConditionalGeneration:
    """The tiny LLaVA's weights, with crops of 24 × 24 tokens in a picture of two by two."""
    of = FIXTURES / "tiny-llava"
    config = LlavaConfig.from_pretrained(of).to_dict()
    shared = {name: config[name] for name in ("vision_config", "text_config", "image_token_index")}
    model = LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            **shared,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            image_grid_pinpoints=[[336, 336]],
            tie_word_embeddings=False,
            attn_implementation="eager",
        )
    ).eval()
    weights = LlavaForConditionalGeneration.from_pretrained(of).state_dict()
    found = model.load_state_dict(weights, strict=False)
    assert found.missing_keys == ["model.image_newline"]
    model.generation_config.eos_token_id = None
    return model


def crops(image: Tensor) -> Tensor:
    """An image [3, s, s] and the quadrants of its double: [5, 3, s, s]."""
    double = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    quadrants = [half for row in double.chunk(2, 1) for half in row.chunk(2, 2)]
    return torch.stack([image, *quadrants])


def generate(model, input_ids: Tensor, pixels: Tensor, method, budget: int):
    """Tokens, logits and the prefill, with all of the picture's tokens in the place of 576."""
    ids = input_ids[0]
    first = int((ids == IMAGE).nonzero()[0])
    image = torch.full((576 + 48 * 49,), IMAGE)
    prompt = torch.cat([ids[:first], image, ids[first + 576 :]])[None]
    with attach(model, method, Budget(budget)) as trace:
        out = model.generate(
            **{"input_ids": prompt, "attention_mask": torch.ones_like(prompt)},
            **{"pixel_values": pixels[None], "image_sizes": torch.tensor([[336, 336]])},
            **{"max_new_tokens": 5, "do_sample": False},
            **{"output_logits": True, "return_dict_in_generate": True},
        )
    return out.sequences[0, prompt.shape[1] :], torch.stack(out.logits, 1)[0], trace.prefills[-1]


@pytest.mark.parametrize("budget", [640, 160])
def test_divprune(tiny_next, published, published_more, budget):
    newline = np.linspace(-1, 1, 64, dtype=np.float32)
    tiny_next.model.image_newline.data = torch.from_numpy(newline)
    tokens, logits, prefill = generate(
        tiny_next,
        torch.from_numpy(published["input_ids"]).long(),
        crops(torch.from_numpy(published["pixel_values"])[0]),
        get_method("divprune"),
        budget,
    )
    found, run = published_more("divprune"), f"0/divprune-next{budget}"
    np.testing.assert_array_equal(anchors(prefill)["diverse"], found[f"{run}/kept"])
    assert_same_output(found, run, tokens, logits)


@pytest.mark.parametrize("budget", [640, 320, 160])
def test_visionzip(tiny_next, budget):
    with np.load(FIXTURES / "visionzip-next.npz") as stored:
        found = dict(stored)
    tiny_next.model.image_newline.data = torch.from_numpy(found["newline"])
    tokens, logits, prefill = generate(
        tiny_next,
        torch.from_numpy(found["input_ids"]),
        torch.from_numpy(found["pixel_values"]).float(),
        get_method("visionzip"),
        budget,
    )
    dominant, run = found[f"visionzip-{budget}/dominant"], f"visionzip-{budget}"
    whole, picture = (selection.cut.anchors[0].numpy() for selection in prefill.selections)
    each = dominant.shape[1]
    np.testing.assert_array_equal(whole[:each], dominant[0])
    patches = picture[: 4 * (each - 1)]
    for crop, rows in enumerate(dominant[1:]):
        np.testing.assert_array_equal(np.sort(patches[patches // 577 == crop]) % 577, rows[1:])
    assert prefill.entering.unique().tolist() == [budget]
    assert_same_output(found, run, tokens, logits)


@pytest.mark.parametrize("budget", [640, 160])
@pytest.mark.parametrize(
    ("name", "key"),
    [("fastervlm", "mask"), ("vispruner", "mask64"), ("scope", "picked"), ("hiprune", "mask")],
)
def test_patches_of_each_crop(tiny_next, published, published_more, name, key, budget):
    """Each crop keeps an equal share; they come out row by row of the picture, without newlines."""
    tokens, logits, prefill = generate(
        tiny_next,
        torch.from_numpy(published["input_ids"]).long(),
        crops(torch.from_numpy(published["pixel_values"])[0]),
        get_method(name),
        budget,
    )
    found, run = published_more(name), f"0/{name}-next{budget}"
    whole, picture = (selection.cut.anchors[0].numpy() for selection in prefill.selections)
    kept = [whole - 1, *(np.sort(picture[picture // 577 == i] % 577) - 1 for i in range(4))]
    for own, theirs in zip(kept, found[f"{run}/{key}"], strict=True):
        expected = np.sort(theirs) if key == "picked" else theirs.nonzero()[0]
        np.testing.assert_array_equal(own, expected)
    suffix = "64" if key == "mask64" else ""
    assert tokens.tolist() == found[f"{run}/tokens{suffix}"].tolist()
    np.testing.assert_allclose(logits.numpy(), found[f"{run}/logits{suffix}"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["plain", "plus"])
def test_prumerge_takes_the_view_as_an_image_alone(tiny_next, published, published_more, variant):
    """Each of the five has 64 tokens; the rows it merges of the first are those of LLaVA-1.5's."""
    _, _, prefill = generate(
        tiny_next,
        torch.from_numpy(published["input_ids"]).long(),
        crops(torch.from_numpy(published["pixel_values"])[0]),
        get_method("prumerge", variant=variant),
        320,
    )
    found = published_more("prumerge")
    top = found[f"0/prumerge{'plus' if variant == 'plus' else ''}-64/top"]
    view, picture = (selection.cut for selection in prefill.selections)
    np.testing.assert_array_equal(view.anchors[0].numpy()[: len(top)] - 1, top)
    assert (picture.anchors[0] // 577).tolist() == [crop for crop in range(4) for _ in range(64)]
    of_crops = picture.weights[0].reshape(4, 64, 4, 577)
    for crop in range(4):
        others = [other for other in range(4) if other != crop]
        assert of_crops[crop][:, others].abs().sum() == 0
        assert of_crops[crop][:, crop].abs().sum() > 0


def whole_shares(early, crops, marked, tokens):
    """HiRED's shares as the code has them: rounded down, and what that leaves is lost."""
    filled = shares_of_crops(early, crops, marked, tokens)
    run = early.argsort(descending=True, stable=True)[:, :marked] * crops // early.shape[1]
    found = torch.stack([(run == crop).sum(1) for crop in range(crops)], 1)
    whole = (found.float() / marked * tokens).floor().long()
    assert ((filled - whole) >= 0).all()
    assert ((filled - whole) <= 1).all()
    assert (filled.sum(1) == tokens).all()
    return whole


class AsPrinted(HiRED):
    """Promises what is left of the budget where the code loses tokens."""

    left: ClassVar[int]

    def solve(self, budget, sizes):
        return replace(super().solve(budget, sizes), entering=(self.left,) * sizes.layers)


@pytest.mark.parametrize("budget", [640, 320, 160])
def test_hired_deals_its_budget_over_the_crops(
    monkeypatch, tiny_next, published, published_more, budget
):
    found, run = published_more("hired"), f"0/hired-next2x2-{budget}"
    mask = found[f"{run}/mask"]
    left = int(mask.sum())
    monkeypatch.setattr(hired, "shares_of_crops", whole_shares)
    monkeypatch.setattr(hired, "first_true", lambda flags, tokens: first_true(flags, left))
    monkeypatch.setattr(AsPrinted, "left", left, raising=False)
    tokens, logits, prefill = generate(
        tiny_next,
        torch.from_numpy(published["input_ids"]).long(),
        crops(torch.from_numpy(published["pixel_values"])[0]),
        AsPrinted(),
        budget,
    )
    rows = prefill.selections[0].cut.anchors[0].numpy()
    kept = np.zeros((5, 577), bool)
    kept[rows // 577, rows % 577] = True
    np.testing.assert_array_equal(kept[:, 1:], mask)
    assert_same_output(found, run, tokens, logits)


def of_packed(by_crop: Tensor) -> Tensor:
    """Patches of crops [5, 576] in the order of the tokens: [1, 2928]; 9 on newlines."""
    picture = by_crop[1:].reshape(2, 2, 24, 24).transpose(1, 2).reshape(48, 48)
    return torch.cat([by_crop[0], pad(picture, (0, 1), value=9).flatten()])[None]


@pytest.mark.parametrize("budget", [160, 80])
def test_cdpruner_by_clips_relevance(monkeypatch, tiny_next, published, published_more, budget):
    found, run = published_more("cdpruner"), f"0/cdpruner-next{budget}"
    pixels = crops(torch.from_numpy(published["pixel_values"])[0])
    tower = tiny_next.model.vision_tower
    with torch.no_grad():
        features = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        seen = tower.post_layernorm(features) @ torch.from_numpy(found["visual_projection"]).T
    text = torch.from_numpy(found[f"{run}/text_embeds"])
    relevance = -(normalize(seen, dim=-1) @ normalize(text, dim=-1).T).mean(-1)
    monkeypatch.setattr(cdpruner, "relevance_to_text", lambda *_: of_packed(relevance))
    tokens, logits, prefill = generate(
        tiny_next,
        torch.from_numpy(published["input_ids"]).long(),
        pixels,
        get_method("cdpruner"),
        budget,
    )
    expected = of_packed(torch.from_numpy(found[f"{run}/mask"]).long())[0] == 1
    assert anchors(prefill)["diverse"].tolist() == expected.nonzero()[:, 0].tolist()
    assert_same_output(found, run, tokens, logits)
