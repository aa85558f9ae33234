"""A pretended device: values on the CPU under the rules that CUDA has about devices and waits.

Every operation is seen below autograd and done on the CPU, so that `generate` runs whole. What a
GPU would refuse raises `DeviceError`: operands on two devices, a CPU generator, products that CUDA
has no kernel for. What makes the host wait is noted, with its line, in `PretendedDevice.waits`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / part) + "/" for part in ("methods", "baselines", "tests"))
TORCH = str(Path(torch.__file__).parent) + "/"
A_MODULE_CALL = nn.Module._call_impl.__code__.co_filename

COPIES = {aten._to_copy.default, aten.copy_.default}
GATHERED = {aten.index.Tensor, aten._unsafe_index.Tensor}
SCATTERED = {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
READ = {
    aten._local_scalar_dense.default: "its value is read",
    aten.is_nonzero.default: "its value is read",
    aten.equal.default: "its values are compared",
    aten._linalg_check_errors.default: "errors are looked for",
    **dict.fromkeys(
        (
            aten.nonzero.default,
            aten.masked_select.default,
            aten._unique2.default,
            aten.unique_dim.default,
            aten.unique_consecutive.default,
            aten.bincount.default,
        ),
        "its values decide a size",
    ),
}
PRODUCTS = {
    aten.mm.default,
    aten.bmm.default,
    aten.mv.default,
    aten.dot.default,
    aten.addmm.default,
    aten.addmv.default,
    aten.baddbmm.default,
}
TAKES_NUMBERS = {aten.fill_.Tensor, *SCATTERED}


class DeviceError(RuntimeError):
    """What a GPU would not have done."""


class _Backend(backend_registration._DummyBackendModule):
    """What torch asks of a device's module; not available, so that nothing else takes it."""

    def is_available(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def is_autocast_enabled(self) -> bool:
        return False


class _Hook(backend_registration._DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return False


# torch asks the driver for "cuda" before any operation is seen; this name has no driver
backend_registration._setup_privateuseone_for_python_backend("pretended", _Backend(), _Hook())
DEVICE = torch.device("pretended", 0)


class Pretended(Tensor):
    """A tensor that says it is on the device; `values` are on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Pretended:
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )
        made.values = values
        return made

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Pretended({self.values})"

    def tolist(self):
        """The binding reads the storage, without an operation that could be seen."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Outside of a `PretendedDevice` the rules are the same, and waits are not noted."""
        return PretendedDevice().__torch_dispatch__(func, types, args, kwargs)


@dataclass(frozen=True)
class Wait:
    """`place`: file and function that made the host wait; `line` and `what` it did there."""

    place: str
    line: int
    what: str

    def __str__(self) -> str:
        file, function = self.place.split()
        return f"{file}:{self.line} in {function}: {self.what}"


class PretendedDevice(TorchDispatchMode):
    """While it is entered, tensors can be made on `DEVICE` and moved there; `waits` in order."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[Wait] = []

    def __enter__(self):
        # torch.tensor(list, device=...) moves what it made on the CPU where this sees it
        self.lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self.lifted)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        there = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
        target = _is_made_there(func, args, kwargs.get("device"), there)
        for fault in _faults(func, kwargs, tensors, there, target):
            raise DeviceError(f"{func}: {fault}, at {_blamed('refused')}")
        if there or target:
            self.waits += [_blamed(f"{func}: {why}") for why in _waits(func, args, kwargs, target)]
        if func is aten._fused_sdp_choice.default:
            return torch.nn.attention.SDPBackend.MATH.value
        return _done(func, args, kwargs, tensors, target)


def pretended(model: nn.Module) -> nn.Module:
    """Put a model on the device; tensors that `Module.to` would not move stay where they are."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                moved = nn.Parameter(Pretended(value.detach()), requires_grad=False)
                module._parameters[name] = moved
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = Pretended(value)
    return model


def _is_made_there(func, args, device: torch.device | None, there: list[Tensor]) -> bool:
    if device is not None:
        return torch.device(device).type == DEVICE.type
    return isinstance(args[0], Pretended) if func in COPIES else bool(there)


def _done(func, args, kwargs, tensors: list[Tensor], target: bool):
    """The result of doing it on the CPU."""
    plain_kwargs = {name: _each(_on_cpu, value) for name, value in kwargs.items()}
    if plain_kwargs.get("device") is not None:
        plain_kwargs["device"] = torch.device("cpu")
    # what is done in place gives back the very tensor that it was given
    given = {id(_on_cpu(own)): own for own in tensors}

    def placed(out):
        if not isinstance(out, Tensor):
            return out
        return given.get(id(out), Pretended(out) if target else out)

    return _each(placed, func(*_each(_on_cpu, args), **plain_kwargs))


def _on_cpu(value):
    return value.values if isinstance(value, Pretended) else value


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """`change` of each value in what an operation takes or returns, lists and tuples too."""
    if isinstance(value, list | tuple):
        return type(value)([_each(change, one) for one in value])
    return change(value)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _faults(
    func, kwargs, tensors: list[Tensor], there: list[Tensor], target: bool
) -> Iterator[str]:
    numbers_allowed = torch.Tag.pointwise in func.tags or func in TAKES_NUMBERS
    if there and func not in COPIES | GATHERED:
        for tensor in tensors:
            if tensor.device.type == "cpu" and not (tensor.dim() == 0 and numbers_allowed):
                if func in SCATTERED and tensor.dtype in (torch.long, torch.bool):
                    continue  # an index, which CUDA copies
                yield f"an operand of shape {list(tensor.shape)} is on the CPU"
    generator = kwargs.get("generator")
    if target and generator is not None and generator.device.type != DEVICE.type:
        yield f"a generator on {generator.device}"
    kinds = {tensor.dtype for tensor in tensors}
    if there and func in PRODUCTS and (len(kinds) > 1 or not there[0].is_floating_point()):
        yield f"a product in {', '.join(sorted(map(str, kinds)))}"
    if there and func is aten._cdist_forward.default and there[0].dtype.itemsize < 4:
        yield f"distances in {there[0].dtype}"


def _waits(func, args, kwargs, target: bool) -> Iterator[str]:
    if func in READ:
        yield READ[func]
    if func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
        yield "its values decide a size"
    if func in COPIES:
        source = args[1] if func is aten.copy_.default else args[0]
        if isinstance(source, Pretended) != target and source.numel() > 0:
            yield "a copy to the device" if target else "a copy to the host"
    if func in GATHERED | SCATTERED:
        one_value = func in SCATTERED and args[2].numel() == 1
        for index in _tensors(args[1]):
            if not isinstance(index, Pretended):
                yield "indices on the CPU are copied"
            elif index.dtype == torch.bool and not one_value:
                yield "a mask's values decide a size"


def _blamed(what: str) -> Wait:
    """The innermost line that is neither torch's nor this file's; the project's, where there is one
    between it and the call of the module, or transformers' `generate`, that it lies in.
    """
    site, frame = None, sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file != __file__ and file.startswith(OURS) and "site-packages" not in file:
            inner = "" if site is None else f", in {_place(site)}:{site.f_lineno}"
            return Wait(_place(frame), frame.f_lineno, what + inner)
        if site is None and file != __file__ and not file.startswith(TORCH):
            site = frame
        if site is not None and (file == A_MODULE_CALL or "/transformers/generation/" in file):
            break
        frame = frame.f_back
    assert site is not None
    return Wait(_place(site), site.f_lineno, what)


def _place(frame) -> str:
    path = Path(frame.f_code.co_filename)
    own = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(*path.parts[-2:])
    return f"{own} {frame.f_code.co_name}"
