"""The formulas against torch's counter for every method, and which attention kernel really ran."""

from __future__ import annotations

import pytest
import torch
from of_images import OF_ONE_IMAGE

from harness.efficiency.trackers.kernels import (
    EAGER,
    attention_kernels,
    counted_flops,
    flop_counter,
    short,
)
from harness.efficiency.trackers.memory import cache_bytes
from harness.efficiency.workload import Load, Workload
from harness.models.load import load_model
from harness.records import cost
from harness.records.counted import ledgers_of
from harness.records.ledger import ledger_of, mean_projected, mean_tower_flops
from methods import Budget, get_method
from methods.adapters import adapter_for

WITHOUT_PRODUCTS = ("unpruned", "uniform", "random", "frames", "v2drop", "vidcom2")
"""Methods that multiply no matrices: controls, and two that take norms of differences."""
LOAD = Load(batch_size=2, new_tokens=2)


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def workload(request: pytest.FixtureRequest) -> Workload:
    loaded = load_model("random:tiny", "cpu", attention=request.param)
    return Workload.of(loaded, LOAD)


@pytest.mark.parametrize("name", OF_ONE_IMAGE)
def test_flops_of_each_phase_are_what_torchs_counter_counts(workload, name) -> None:
    method, adapter = get_method(name), adapter_for(workload.loaded.model)
    budget = Budget(max(64, method.feasible(adapter.sizes(576))[0] or 0))
    counted = counted_flops(workload, method, budget)
    _, prefill = cache_bytes(workload, method, budget)
    shape = vars(adapter.shape())
    entering, text = prefill.entering[0].tolist(), int(prefill.text[0])
    merged = [
        s.cut.anchors.numel()
        for s in prefill.selections
        if s.layer is None and s.cut.merges and not method.inside_tower
    ]
    ledger = ledger_of(ledgers_of(prefill, adapter.shape()))
    rows = 2 * (entering[0] if method.inside_tower else 576) + sum(merged)
    computed = {
        "vision_tower": 2 * mean_tower_flops(ledger, shape, 1),
        "projector": cost.projector_flops(shape, rows),
        "prefill": 2 * cost.prefill_flops(shape, entering, text),
    }
    selection = counted.pop("selection", 0)
    assert counted == {name: pytest.approx(flops, rel=0.01) for name, flops in computed.items()}
    assert (selection == 0) == (name in WITHOUT_PRODUCTS)
    assert 2 * mean_projected(ledger, shape, 1) + sum(merged) == rows
    if method.inside_tower:
        assert selection == pytest.approx(2 * ledger[0].selection_flops, rel=0.01)
        assert computed["vision_tower"] < 0.8 * 2 * cost.tower_flops(shape)


def test_the_counter_counts_attention_in_one_kernel_as_in_plain_operators() -> None:
    query, key = torch.ones(2, 8, 30, 16), torch.ones(2, 8, 50, 16)
    with flop_counter() as fused:
        torch.nn.functional.scaled_dot_product_attention(query, key, key)
    with flop_counter() as plain:
        (query @ key.mT).softmax(-1) @ key
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    assert fused.get_flop_counts()["Global"] == {kernel: plain.get_total_flops()}
    assert plain.get_total_flops() == 2 * 2 * (2 * 8 * 30 * 50 * 16)


def test_the_profile_names_the_kernel_that_ran(workload) -> None:
    found = attention_kernels(lambda: workload.generate(1), torch.device("cpu"))
    eager = workload.loaded.attention == "eager"
    flash = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert found == {"operators": [EAGER if eager else flash], "kernels": []}


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (
            "void pytorch_flash::flash_fwd_kernel<T<64, 128>, false>(P)",
            "pytorch_flash::flash_fwd_kernel",
        ),
        (
            "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(Params)",
            "fmha_cutlassF_bf16_aligned_64x64_rf_sm80",
        ),
        (
            "cudnn_generated_fort_native_sdpa_sm90_flash_fprop",
            "cudnn_generated_fort_native_sdpa_sm90_flash_fprop",
        ),
    ],
)
def test_short_names(kernel, name) -> None:
    assert short(kernel) == name
