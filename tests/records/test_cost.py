"""The formulas against torch's own flop counter and by hand."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import shapes

from harness.records import cost

LLAVA_7B = asdict(shapes.LLAVA_7B)
SMALL = {
    **LLAVA_7B,
    "layers": 3,
    "hidden_size": 64,
    "intermediate_size": 160,
    "attention_heads": 4,
    "key_value_heads": 2,
    "head_dim": 24,
    "vocabulary": 99,
    "tower_layers": 2,
    "tower_width": 48,
    "tower_heads": 2,
    "tower_intermediate": 100,
    "tower_rows": 65,
    "patch_values": 3 * 7 * 7,
}


def counted(model, **inputs) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return counter.get_total_flops()


def test_the_decoder_is_what_torchs_flop_counter_counts():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        vocab_size=99,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.zeros(1, 150, dtype=torch.long)
    found = counted(model, input_ids=ids, logits_to_keep=1)
    assert cost.prefill_flops(SMALL, [130] * 3, text=20) == pytest.approx(found, rel=0.01)


def test_the_tower_is_what_torchs_flop_counter_counts():
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=100,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=56,
        patch_size=7,
        attn_implementation="eager",
    )
    found = counted(CLIPVisionModel(config).eval(), pixel_values=torch.zeros(1, 3, 56, 56))
    assert cost.tower_flops(SMALL) == pytest.approx(found, rel=0.01)


def test_the_projector_is_two_linear_layers():
    assert cost.projector_flops(SMALL, 10) == 2 * 10 * (48 * 4096 + 4096 * 64)


def test_llava_7b_has_the_published_order_of_magnitude():
    # 6.7 G weights of the decoder, 2 FLOPs each, 576 + 64 tokens: about 8.5 TFLOP with attention
    assert cost.prefill_flops(LLAVA_7B, [576] * 32, text=64) == pytest.approx(8.5e12, rel=0.02)
    assert cost.tower_flops(LLAVA_7B) == pytest.approx(0.35e12, rel=0.1)
    assert cost.projector_flops(LLAVA_7B, 576) == pytest.approx(0.024e12, rel=0.05)


def test_each_layer_counts_the_tokens_that_entered_it():
    shape = SMALL
    mixed = cost.prefill_flops(shape, [576, 64, 10], text=5)
    layers = sum(cost.layer_flops(shape, tokens) for tokens in (581, 69, 15))
    assert mixed == layers + 2 * 64 * 99


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_kv_cache_bytes(dtype, size):
    rows = [600, 100, 100]
    assert cost.kv_cache_bytes(SMALL, rows, dtype) == 800 * 2 * 24 * 2 * size


def test_the_shapes_names_are_the_interfaces():
    from dataclasses import fields

    from methods.sizes import ModelShape

    assert {field.name for field in fields(ModelShape)} == set(LLAVA_7B)
