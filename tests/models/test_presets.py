"""Presets: published shapes, drawn alike each time, and nothing else disturbed."""

from __future__ import annotations

import pytest
import torch

from harness.efficiency.workload import Load, Workload
from harness.errors import BadInput
from harness.models import presets
from harness.models.load import load_model, resolve
from methods import Budget, get_method
from methods.adapters.llava import LlavaAdapter


@pytest.mark.parametrize(
    ("name", "billions", "visual"),
    [
        ("random:llava-1.5-7b", 7.06, 576),
        ("random:llava-1.5-13b", 13.35, 576),
        ("random:llava-next-7b", 7.06, 2880),
        ("random:llava-1.5-7b-eighth", 0.139, 576),
    ],
)
def test_shapes_are_those_published(name, billions, visual) -> None:
    from transformers import LlavaForConditionalGeneration

    with torch.device("meta"):
        model = LlavaForConditionalGeneration(presets.configuration(name))
    counted = sum(p.numel() for p in model.parameters())
    assert counted / 1e9 == pytest.approx(billions, rel=0.01)
    assert presets.parameters(name) == pytest.approx(counted, rel=0.005)
    adapter = LlavaAdapter(model)
    assert presets.preset(name).images * adapter.shape().image_tokens == visual
    assert adapter.shape().tower_rows == 577


def test_a_preset_is_drawn_alike_each_time_and_leaves_the_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two = (load_model("random:tiny", "cpu", "bfloat16") for _ in range(2))
    assert torch.rand(1) == expected
    assert one.model.dtype == torch.bfloat16
    assert torch.equal(one.model.lm_head.weight, two.model.lm_head.weight)
    assert one.digest == two.digest == resolve("random:tiny").digest() != resolve("tiny").digest()


@pytest.mark.parametrize("name", ["vitcop", "fastv", "sparsevlm", "visionzip", "pyramiddrop"])
def test_bfloat16_activations_are_finite_and_the_selection_is_no_mere_order(name) -> None:
    loaded = load_model("random:tiny", "cpu", "bfloat16")
    workload = Workload.of(loaded, Load(images=2, new_tokens=2))
    with workload.attached(get_method(name), Budget(128)) as trace:
        cache = workload.generate().past_key_values
    assert all(torch.isfinite(layer.values).all() for layer in cache.layers)
    kept = trace.prefills[-1].selections[-1].cut.anchors
    assert (kept.diff() != 1).any()


def test_the_workload_is_drawn_from_its_seed_alone() -> None:
    loaded = load_model("random:tiny", "cpu")
    one, same, other = (
        Workload.of(loaded, Load(2, 3, prompt_tokens=10, seed=s)).inputs for s in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["input_ids"], other["input_ids"])
    image = loaded.model.config.image_token_id
    assert (one["input_ids"] == image).sum(1).tolist() == [3 * 576] * 2
    assert one["input_ids"].shape == (2, 3 * 576 + 10)
    assert one["pixel_values"].shape == (6, 3, 168, 168)


def test_a_workload_of_text_has_no_image() -> None:
    loaded = load_model("random:tiny", "cpu")
    plain = Workload.of(loaded, Load(2, new_tokens=2)).of_text(100)
    assert plain.inputs["input_ids"].shape == (2, 100)
    assert not (plain.inputs["input_ids"] == loaded.model.config.image_token_id).any()
    cache = plain.generate(new_tokens=1).past_key_values
    assert {layer.keys.shape[2] for layer in cache.layers} == {100}


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"did you mean 'random:llava-1\.5-7b'"):
        resolve("random:llava-1.5-7")
