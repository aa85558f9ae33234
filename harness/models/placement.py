"""Where and how a model runs: device, dtype and attention kernel, checked before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from harness.errors import BadInput, unknown

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")


@dataclass(frozen=True)
class Placement:
    """Nothing is left as "auto"."""

    device: str
    dtype: str
    attention: str


def check_names(device: str, dtype: str, attention: str) -> None:
    """Raises BadInput for a word that is none of those allowed, with the nearest."""
    kind = "cuda" if device.startswith("cuda:") else device
    asked = (
        ("device", kind, DEVICES),
        ("dtype", dtype, DTYPES),
        ("attention", attention, ATTENTIONS),
    )
    for option, word, allowed in asked:
        if word not in allowed:
            raise unknown(option, word, allowed)


def placed(device: str, dtype: str, attention: str, own_dtype: str) -> Placement:
    """What these stand for on this machine; "auto" is a GPU if there is one.

    Weights of `own_dtype` run in it on a GPU, and in float32 on a CPU, where it is not slower.
    Raises BadInput for what the machine does not have.
    """
    device = _available(device)
    if dtype == "auto":
        dtype = "float32" if device == "cpu" or own_dtype not in DTYPES else own_dtype
    if attention == "flash_attention_2":
        _check_flash(device, dtype)
    return Placement(device, dtype, attention)


def _available(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    kind, numbered, index = device.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if count else "cpu"
    if not count:
        raise BadInput("device cuda is not available on this machine; allowed: cpu")
    if numbered and not (index.isdecimal() and int(index) < count):
        raise BadInput(f"unknown device {device!r}; allowed: cuda:0 to cuda:{count - 1}, or cpu")
    return device


def _check_flash(device: str, dtype: str) -> None:
    needs = "attention flash_attention_2 needs"
    if find_spec("flash_attn") is None:
        raise BadInput(f"{needs} the package flash-attn (extra `flash`); allowed: sdpa, eager")
    if device == "cpu":
        raise BadInput(f"{needs} device cuda; on the CPU allowed: sdpa, eager")
    if dtype == "float32":
        raise BadInput(f"{needs} dtype float16 or bfloat16, not float32")


def free_bytes(device: str) -> int:
    """Memory of a device that nobody holds."""
    import psutil
    import torch

    cuda = device.startswith("cuda")
    return torch.cuda.mem_get_info(device)[0] if cuda else psutil.virtual_memory().available


def machine(device: str) -> dict[str, Any]:
    """What a record says of the machine: the GPU's name, None on a CPU, and torch's threads."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {"device_name": name, "threads": torch.get_num_threads()}
