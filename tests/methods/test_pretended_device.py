"""No method breaks CUDA's rules, or makes the host wait where the unpruned model does not.

Every method runs a prefill and two decoding steps on a pretended device. What transformers waits
for without a method is its own; of ours the waits that are named below are allowed, and no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import ClassVar

import pytest
import torch
from of_images import OF_ONE_IMAGE
from pretended_device import DEVICE, DeviceError, Pretended, PretendedDevice, Wait, pretended
from small_models import make_prompts, small_llava
from torch import Tensor

from methods import Budget, Method, attach, generation, get_method
from methods.caches import CACHE_ARGUMENT, cache_of
from methods.interface import Cut, DecoderStage, Plan, Read, Selection, Sizes, View

TOWER_LAYERS = 5
SETTINGS = {"max_new_tokens": 3, "do_sample": False}
PROMPTS = make_prompts()
PADDED, ALONE = (0, 1, 2, 3), (0,)
BEFORE_THE_PREFILL = {"methods/prompt.py read_prompt": 1}
"""The prompt's lengths: plans are made of integers."""
AFTER_THE_LAST_TOKEN = {"methods/trace.py check_numbers": 1}
INSIDE_THE_TOWER = {
    "methods/inside_tower.py begin": 1,  # how many images share a budget, before they are encoded
    "methods/tower_rows.py _count": 1,  # where data decide how many rows stay
}


@cache
def model(kind: torch.dtype):
    return pretended(small_llava(tower_layers=TOWER_LAYERS).to(kind))


def answer(kind: torch.dtype, rows: tuple[int, ...]) -> Tensor:
    """The tokens of some prompts, after a prefill and two decoding steps."""
    inputs = PROMPTS.batch(*rows)
    inputs["pixel_values"] = inputs["pixel_values"].to(kind)
    moved = {name: Pretended(value) for name, value in inputs.items()}
    return model(kind).generate(**moved, **SETTINGS).values


def waits(kind: torch.dtype, rows: tuple[int, ...], method: Method) -> list[Wait]:
    """Those of an answer; counts of visual tokens are held to the plan."""
    with PretendedDevice() as device, attach(model(kind), method, Budget(fraction=0.4)) as trace:
        answer(kind, rows)
    assert torch.equal(trace.prefills[0].entering, trace.prefills[0].planned)
    return device.waits


@cache
def of_the_stock_model(kind: torch.dtype, rows: tuple[int, ...]) -> Counter[str]:
    """How often each place waits without a method."""
    with PretendedDevice() as device:
        answer(kind, rows)
    return Counter(wait.place for wait in device.waits)


def unwanted(kind: torch.dtype, rows: tuple[int, ...], method: Method) -> list[str]:
    """A line for each place that waits more often than is allowed."""
    allowed = Counter({**BEFORE_THE_PREFILL, **AFTER_THE_LAST_TOKEN})
    if method.inside_tower:
        allowed.update(INSIDE_THE_TOWER)
    found = waits(kind, rows, method)
    more = Counter(w.place for w in found) - of_the_stock_model(kind, rows) - allowed
    return [f"{count} too many: {w}" for w in found if (count := more.pop(w.place, 0))]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (torch.float32, ALONE),
        *((kind, PADDED) for kind in (torch.float32, torch.bfloat16, torch.float16)),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", OF_ONE_IMAGE)
def test_a_method_keeps_the_rules_and_does_not_wait(name, kind, rows):
    assert unwanted(kind, rows, get_method(name)) == []


def test_what_data_decide_is_waited_for_once_a_cut():
    found = Counter(wait.place for wait in waits(torch.float32, PADDED, get_method("flowcut")))
    assert found["methods/tower_rows.py _count"] == 1


def test_what_data_decide_in_the_decoder_is_waited_for_once_a_stage():
    """Of two images, which are frames."""
    fusion, rows = get_method("framefusion"), (2,)
    with PretendedDevice() as device, attach(model(torch.float32), fusion, Budget(120)) as trace:
        answer(torch.float32, rows)
    cuts, layers = len(trace.prefills[0].selections), trace.prefills[0].sizes[0].layers
    found = Counter(wait.place for wait in device.waits) - of_the_stock_model(torch.float32, rows)
    more = found - Counter({**BEFORE_THE_PREFILL, **AFTER_THE_LAST_TOKEN})
    assert more.keys() == {"methods/stages.py run_decoder_stage"}
    assert 1 <= cuts <= more.total() < layers


@pytest.mark.parametrize("name", ["vitcop", "sparsevlm", "flowcut", "random"])
def test_tokens_are_those_of_the_cpu(name):
    stock = small_llava(tower_layers=TOWER_LAYERS)
    with attach(stock, get_method(name), Budget(fraction=0.4)):
        expected = stock.generate(**PROMPTS.batch(*PADDED), **SETTINGS)
    with PretendedDevice(), attach(model(torch.float32), get_method(name), Budget(fraction=0.4)):
        assert torch.equal(answer(torch.float32, PADDED), expected)


# --- masks that are built without a look at the padding -----------------------------------------


@pytest.mark.parametrize("name", ["vitcop", "sparsevlm", "fastv"])
@pytest.mark.parametrize("rows", [ALONE, PADDED], ids=str)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_masks_are_those_that_a_look_at_the_padding_gives(name, rows, kernel, monkeypatch):
    built: list[tuple] = []
    prepare = generation.Generation._prepare

    def both(self, run, hidden, kwargs):
        prepare(self, run, hidden, kwargs)
        looked_at = generation.create_causal_mask(
            config=self.adapter.text_config,
            inputs_embeds=hidden,
            attention_mask=run.mask_2d,
            layer_idx=run.first,
            **{CACHE_ARGUMENT: cache_of(kwargs)},
        )
        built.append((run.mask, looked_at))

    monkeypatch.setattr(generation.Generation, "_prepare", both)
    stock = small_llava(kernel)
    with attach(stock, get_method(name), Budget(fraction=0.4)) as trace:
        stock.generate(**PROMPTS.batch(*rows), max_new_tokens=5, do_sample=False)
    runs = len({cut.layer for cut in trace.prefills[0].selections} - {None, 0})
    assert len(built) == 5 * runs
    for mask, looked_at in built:
        assert (mask is None) == (looked_at is None)
        assert mask is None or torch.equal(mask, looked_at)


# --- planted faults -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted(Method):
    """Keeps the first rows, and does `fault` to their indices on the way."""

    fault: Callable[[View, Tensor], Tensor]
    name: ClassVar[str] = "planted"
    label: ClassVar[str] = "Planted"
    cuts: ClassVar[str] = "before layer 2"

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        stage = DecoderStage("fault", 2, (Read.HIDDEN, Read.LAST_ATTENTION), self.select)
        entering = (sizes.tokens,) * 2 + (8,) * (sizes.layers - 2)
        return Plan(entering=entering, decoder=(stage,))

    def select(self, view: View) -> Selection:
        first = torch.arange(8, device=view.segments.device).repeat(len(view.segments), 1)
        return Selection(Cut(self.fault(view, first)))


def no_fault(view, first):
    return first


def value_read(view, first):
    return first + 0 if view[Read.HIDDEN].sum().item() > 0 else first


def truth_read(view, first):
    return first + 0 if view[Read.HIDDEN].sum() > 0 else first


def list_read(view, first):
    return first + 0 * len(first.tolist())


def places_of_true(view, first):
    return first + 0 * (first > 3).nonzero().sum()


def index_by_mask(view, first):
    return first + 0 * first[first > 3].sum()


def list_copied(view, first):
    return first + torch.tensor([0] * 8, device=first.device)


def through_the_host(view, first):
    return first.cpu().to(DEVICE)


def index_on_cpu(view, first):
    return first[:, torch.arange(8)]


def counts_on_device(view, first):
    return first + 0 * first.repeat_interleave(torch.ones_like(first[0]), 1)


def no_device(view, first):
    return first + torch.zeros(8, dtype=torch.long)


def number_stacked_on_cpu(view, first):
    return first + torch.stack([first[0, 0], torch.tensor(0)]).sum()


def left_on_cpu(view, first):
    return torch.arange(8).repeat(len(first), 1)


def cpu_generator(view, first):
    generator = torch.Generator().manual_seed(0)
    return first + 0 * torch.randperm(8, generator=generator, device=first.device)


def mixed_product(view, first):
    wide = view[Read.HIDDEN].double()
    return first + 0 * (wide @ view[Read.HIDDEN].transpose(1, 2)).long()[:, :1, :8].sum()


def integer_product(view, first):
    return first @ torch.eye(8, dtype=torch.long, device=first.device)


def half_distances(view, first):
    rows = view[Read.HIDDEN][:, :8].half()
    return first + 0 * torch.cdist(rows, rows).long()[:, 0]


@pytest.mark.parametrize(
    "fault",
    [
        value_read,
        truth_read,
        list_read,
        places_of_true,
        index_by_mask,
        list_copied,
        through_the_host,
        index_on_cpu,
        counts_on_device,
    ],
)
def test_a_wait_is_found_by_file_and_line(fault):
    line = fault.__code__.co_firstlineno + 1
    lines = unwanted(torch.float32, ALONE, Planted(fault))
    assert len(lines) == 1
    assert f"tests/methods/test_pretended_device.py:{line} in {fault.__name__}: aten." in lines[0]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (no_device, r"an operand of shape \[8\] is on the CPU"),
        (number_stacked_on_cpu, r"an operand of shape \[\] is on the CPU"),
        (cpu_generator, "a generator on cpu"),
        (mixed_product, "a product in torch.float32, torch.float64"),
        (integer_product, "a product in torch.int64"),
        (half_distances, "distances in torch.float16"),
    ],
)
def test_what_cuda_refuses_is_found_by_file_and_line(fault, said):
    with pytest.raises(DeviceError, match=f"{said}, at tests/methods/test_.*in {fault.__name__}"):
        waits(torch.float32, ALONE, Planted(fault))


def test_rows_that_are_left_on_the_cpu_are_refused():
    with pytest.raises(ValueError, match="anchors is on cpu and the view on pretended:0"):
        waits(torch.float32, ALONE, Planted(left_on_cpu))


def test_without_a_fault_nothing_is_found():
    assert unwanted(torch.float32, ALONE, Planted(no_fault)) == []


def test_numbers_on_the_cpu_are_taken_where_cuda_takes_them():
    with PretendedDevice() as device:
        there = torch.zeros(3, device=DEVICE)
        assert (there + torch.tensor(2.0)).device == DEVICE
        there[there > 0] = 1.0
    assert device.waits == []
