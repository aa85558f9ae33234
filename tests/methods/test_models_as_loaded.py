"""Models as people load them: quantised, offloaded, with a merged LoRA; pruned as the plain one is.

Stand-ins for bitsandbytes (layers of their own) and torchao (weights that are no plain tensors)
hold int8; the plain model has the same numbers in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from small_models import Prompts
from torch import Tensor, nn
from torch.nn import functional

from methods import Budget, attach, get_method

METHODS = ["vitcop", "fastv", "sparsevlm", "visionzip", "flowcut"]
Change = Callable[[Any], Any]


def generated(model: Any, method: str, prompts: Prompts) -> tuple[Tensor, Tensor, list]:
    """Tokens, their logits and the visual tokens that entered each layer."""
    with torch.no_grad(), attach(model, get_method(method), Budget(24), seeds=[0, 1]) as trace:
        out = model.generate(
            **prompts.batch(0, 1),
            max_new_tokens=4,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    return out.sequences, torch.stack(out.logits), trace.prefills[-1].entering.tolist()


def check_equal(model: Any, plain: Any, method: str, prompts: Prompts) -> None:
    tokens, logits, counts = generated(model, method, prompts)
    wanted_tokens, wanted_logits, wanted_counts = generated(plain, method, prompts)
    assert counts == wanted_counts
    assert min(map(min, counts)) < 64
    assert torch.equal(tokens, wanted_tokens)
    torch.testing.assert_close(logits, wanted_logits, rtol=1e-4, atol=1e-4)


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 numbers and a float32 scale a row."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round().to(torch.int8), scale


class Int8Layer(nn.Module):
    """A linear layer whose weight is int8, of another shape than the layer's."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        numbers, self.scale = rounded(plain.weight.data)
        self.weight = nn.Parameter(numbers.flatten()[:, None], requires_grad=False)
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.view(len(self.scale), -1) * self.scale
        return functional.linear(x, weight.to(x.dtype), self.bias)


class Int8Weight(Tensor):
    """A weight that says it is float32, holds int8, and knows no operation but a linear layer's."""

    @staticmethod
    def __new__(cls, numbers: Tensor, scale: Tensor) -> Int8Weight:
        return Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=scale.dtype)

    def __init__(self, numbers: Tensor, scale: Tensor) -> None:
        self.numbers, self.scale = numbers, scale

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is functional.linear:
            x, weight, *bias = args
            return functional.linear(x, weight.numbers * weight.scale, *bias)
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].numbers, args[0].scale)
        raise NotImplementedError(f"{function} of a quantised weight")


def linear_layers(model: Any) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Of the decoder, each with the module that holds it and its name there."""
    return [
        (holder, name, layer)
        for holder in list(model.get_decoder().modules())
        for name, layer in list(holder.named_children())
        if isinstance(layer, nn.Linear)
    ]


def with_layers(model: Any) -> Any:
    for holder, name, layer in linear_layers(model):
        setattr(holder, name, Int8Layer(layer))
    return model


def with_weights(model: Any) -> Any:
    for _, _, layer in linear_layers(model):
        layer.weight = nn.Parameter(Int8Weight(*rounded(layer.weight.data)), requires_grad=False)
    return model


@pytest.fixture
def rounded_model(model: Any) -> Any:
    """The plain model with the numbers that int8 leaves."""
    plain = copy.deepcopy(model)
    for _, _, layer in linear_layers(plain):
        numbers, scale = rounded(layer.weight.data)
        layer.weight.data = numbers * scale
    return plain


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("quantise", [with_layers, with_weights])
def test_quantised(
    model: Any, rounded_model: Any, prompts: Prompts, method: str, quantise: Change
) -> None:
    quantised = quantise(copy.deepcopy(model))
    check_equal(quantised, rounded_model, method, prompts)
    _, logits, _ = generated(quantised, method, prompts)
    assert not torch.allclose(logits, generated(model, method, prompts)[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_offloaded(model: Any, prompts: Prompts, method: str, where: str, tmp_path: Path) -> None:
    away = copy.deepcopy(model)
    if where == "disk":
        disk_offload(away, str(tmp_path), execution_device=torch.device("cpu"))
    else:
        cpu_offload(away, execution_device=torch.device("cpu"))
    assert {p.device.type for p in away.parameters()} == {"meta"}
    check_equal(away, model, method, prompts)


@pytest.mark.parametrize("method", METHODS)
def test_a_merged_lora(model: Any, prompts: Prompts, method: str) -> None:
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"])
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    torch.manual_seed(0)
    plain = copy.deepcopy(model)
    for name, module in adapted.base_model.model.named_modules():
        if hasattr(module, "lora_B"):
            down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
            nn.init.normal_(up)
            plain.get_submodule(name).weight.data += 2 * (up @ down).detach()
    check_equal(adapted.merge_and_unload(), plain, method, prompts)
