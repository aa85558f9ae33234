"""Models by name or directory: what is wrong with them in one sentence, or loaded and at rest.

Only safetensors are read and no code of a checkpoint is run. torch and transformers are imported by
the functions that need them, so that bad input is refused before any work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.checkpoint_files import check_files, digest_files, read_config
from harness.errors import BadInput, unknown

EMBEDDED, TINY = "embedded", "tiny"
NAMED = {
    EMBEDDED: "the trained LLaVA that comes with the package",
    TINY: "an untrained model of the same form, for tests",
}
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs, with nothing left as "auto"."""

    device: str
    dtype: str
    attention: str


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its processor, which pads on the left.

    `digest` is the hex SHA-256 of all that decides its answers but `device`, `dtype`, `attention`.
    """

    model: Any
    processor: Any
    name: str
    digest: str
    device: str
    dtype: str
    attention: str


def check_model(
    name: str, device: str = "auto", dtype: str = "auto", attention: str = "sdpa"
) -> Placement:
    """Refuses what cannot be loaded, without loading a weight; returns what "auto" stands for.

    Raises BadInput.
    """
    _check_one_of("device", device.partition(":")[0], DEVICES)
    _check_one_of("dtype", dtype, DTYPES)
    _check_one_of("attention", attention, ATTENTIONS)
    directory = None if name == TINY else model_directory(name)
    if directory is not None:
        _check_class(directory)
        check_files(directory)
    device = _available(device)
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else _own_dtype(directory)
    if attention == "flash_attention_2":
        _check_flash(device, dtype)
    return Placement(device, dtype, attention)


def model_directory(name: str) -> Path:
    """The directory that `name` stands for. Raises BadInput with the nearest names there are."""
    if name == EMBEDDED:
        return Path(__file__).parent / "embedded" / "checkpoint"
    directory = Path(name).expanduser()
    if directory.is_dir():
        return directory
    if directory.exists():
        raise BadInput(f"the model {name} is a file; name the directory that holds it")
    parent = directory.parent
    beside = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
    near = [str(parent / n) for n in get_close_matches(directory.name, beside, n=1)]
    near = get_close_matches(name, NAMED, n=1) or near
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    raise BadInput(f"unknown model {name!r}{guess} allowed: {', '.join(NAMED)}, or a directory")


def model_digest(name: str) -> str:
    """`LoadedModel.digest` without loading anything but "tiny". Raises BadInput."""
    return _tensor_digest(_tiny()) if name == TINY else digest_files(model_directory(name))


def load_model(
    name: str, device: str = "auto", dtype: str = "auto", attention: str = "sdpa"
) -> LoadedModel:
    """The model "embedded", "tiny" or of a directory. Raises BadInput as `check_model` does."""
    import torch

    placement = check_model(name, device, dtype, attention)
    kind = getattr(torch, placement.dtype)
    with _without_progress_bars():
        if name == TINY:
            model, processor = _tiny(), _tiny_processor()
            model.set_attn_implementation(placement.attention)
            model.to(kind)
        else:
            model, processor = _from_directory(model_directory(name), kind, placement.attention)
    model.requires_grad_(False).eval().to(placement.device)
    _prepare(processor, name)
    return LoadedModel(
        model,
        processor,
        name,
        model_digest(name),
        placement.device,
        placement.dtype,
        placement.attention,
    )


def _check_one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise unknown(option, value, allowed)


def _available(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    kind, _, index = device.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if count else "cpu"
    if kind == "cpu":
        raise BadInput(f"unknown device {device!r}; allowed: {', '.join(DEVICES)}, cuda:NUMBER")
    if not count:
        raise BadInput("--device cuda needs a CUDA device, and none is available; allowed: cpu")
    if index and not (index.isdecimal() and int(index) < count):
        raise BadInput(f"unknown device {device!r}; allowed: cuda:0 to cuda:{count - 1}, or cpu")
    return device


def _check_flash(device: str, dtype: str) -> None:
    needs = "--attention flash_attention_2 needs"
    if find_spec("flash_attn") is None:
        raise BadInput(
            f"{needs} the package flash-attn, which is not installed; allowed: sdpa, eager"
        )
    if device == "cpu":
        raise BadInput(f"{needs} --device cuda; on the CPU allowed: sdpa, eager")
    if dtype == "float32":
        raise BadInput(f"{needs} --dtype float16 or bfloat16, not float32")


def _check_class(directory: Path) -> None:
    from methods.adapters import supported

    classes = read_config(directory).get("architectures") or ["no architecture"]
    if classes[0] not in supported():
        raise BadInput(
            f"{classes[0]} in {directory} is not a supported model class; "
            f"allowed: {', '.join(supported())}"
        )


def _own_dtype(directory: Path | None) -> str:
    config = read_config(directory) if directory else {}
    own = config.get("dtype") or config.get("torch_dtype")
    return own if own in DTYPES else "float16"


def _from_directory(directory: Path, dtype: Any, attention: str) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"the processor in {directory} cannot be loaded: {_line(error)}") from error
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"the model in {directory} cannot be loaded: {_line(error)}") from error
    # transformers only warns and leaves such weights random, which would be measured as if trained
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise BadInput(
            f"the weights in {directory} lack {len(missing)} tensors, such as {missing[0]}"
        )
    return model, processor


def _tiny() -> Any:
    from harness.embedded.architecture import build_tiny

    return build_tiny()


def _tiny_processor() -> Any:
    from harness.embedded.architecture import processor

    return processor()


def _prepare(processor: Any, name: str) -> None:
    if not getattr(processor, "chat_template", None):
        raise BadInput(f"the processor of model {name} has no chat template")
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _tensor_digest(model: Any) -> str:
    total = hashlib.sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
