"""What one prefill did, apart from its time: FLOPs by torch's counter, and attention kernels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from harness.efficiency.clocks import FlopWatch, synchronize
from harness.efficiency.trackers import Probe, Tracker, tracker
from harness.efficiency.workload import Workload
from harness.models.environment import prepare_environment
from methods import Budget, Method

_OPERATOR = re.compile(r"^(aten::_scaled_dot_product_\w*attention\w*|flash_attn\w*::\w+)$")
_KERNEL = re.compile(r"flash|fmha|sdpa|attention", re.IGNORECASE)
EAGER = "softmax(q·k)·v in plain operators"


@tracker
class Kernels(Tracker):
    """Of a cell FLOPs and attention kernels of a prefill."""

    def of_cell(self, probe: Probe) -> dict[str, Any]:
        device = probe.workload.loaded.model.device
        return {
            "counted_flops": counted_flops(probe.workload, probe.method, probe.budget),
            "attention": attention_kernels(lambda: probe.run(new_tokens=1), device),
        }


def counted_flops(workload: Workload, method: Method, budget: Budget) -> dict[str, int]:
    """FLOPs of the batch's prefill by phase: vision_tower, projector, selection, prefill."""
    counter = flop_counter()
    clock = FlopWatch(workload.loaded.model.device, counter)
    with counter, workload.attached(method, budget, clock):
        workload.generate(new_tokens=1)
    return {phase: int(sum(flops)) for phase, flops in clock.seconds().items()}


def flop_counter() -> FlopCounterMode:
    """torch's counter, with the attention kernel of CPUs, which releases before 2.15 leave out."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={kernel: attention_flops})


def attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object
) -> int:
    """FLOPs of q·k and softmax·v by the shapes [B, H, L, d]; a causal mask saves nothing."""
    return 2 * prod(query) * key[-2] + 2 * prod(query[:-1]) * prod(value[-2:])


def attention_kernels(run: Callable[[], object], device: torch.device) -> dict[str, list[str]]:
    """Which attention really ran: torch's operators, and on a GPU the kernels that they launched.

    Names of kernels without their template arguments, which tell head widths and tile sizes.
    """
    with profiling(device) as profiler:
        run()
        synchronize(device)
    names = {event.name for event in profiler.events()}
    operators = sorted(name for name in names if _OPERATOR.match(name))
    return {
        "operators": operators or [EAGER],
        "kernels": sorted({short(name) for name in _launched(profiler) if _KERNEL.search(name)}),
    }


def profiling(device: torch.device) -> profile:
    """torch's profiler of the host and, where there is one, of the GPU."""
    prepare_environment()
    cuda = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    return profile(activities=[ProfilerActivity.CPU, *cuda])


def short(kernel: str) -> str:
    """`void pytorch_flash::flash_fwd_kernel<…>(…)` without result, template and arguments."""
    return re.sub(r"^void ", "", re.split(r"[<(]", kernel, maxsplit=1)[0])


def _launched(profiler: Any) -> Iterable[str]:
    device = torch.autograd.DeviceType.CUDA
    return (event.name for event in profiler.events() if event.device_type == device)
