"""A checkpoint's configuration held against what can be pruned and against its weights.

The weights are loaded on torch's meta device: names and shapes without values, so a model of any
size takes a moment. transformers only warns of what does not fit and leaves it random, which would
be measured as if it were trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import BadInput, blamed
from harness.models.files import CONFIG, read_config, tensor_count
from harness.models.placement import DTYPES
from harness.models.processor import check_processor, processor_of
from harness.models.protocols import LlavaProtocol, Protocol
from harness.models.shapes import shape_of

_SIZES = {
    "vision_config": (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("image_size", "patch_size", "num_channels"),
    ),
    "text_config": (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "vocab_size"),
    ),
}
_OF_BOTH_SIDES = ("image_size", "patch_size")
_FLAT = ("qwen2_vl", "qwen2_5_vl")
"""Whose published files have the decoder's fields beside the others."""


def own_dtype(directory: Path) -> str:
    """The dtype that the weights are in, by the configuration.

    Raises BadInput for an unknown one, and for a class that cannot be pruned.
    """
    config = read_config(directory)
    _checked_class(directory, config)
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    allowed = DTYPES[1:]
    if dtype not in allowed:
        raise BadInput(
            f"dtype {dtype!r} in {directory / CONFIG} is unknown; allowed: {', '.join(allowed)}"
        )
    return dtype


def check_fit(directory: Path, protocol: Protocol) -> None:
    """Raises BadInput, naming file and field, for a checkpoint that could not be pruned as it is.

    The files themselves must have been checked.
    """
    model = _model_without_values(directory, _checked_config(directory))
    if isinstance(protocol, LlavaProtocol) and not shape_of(model).image_tokens:
        raise BadInput(
            f"--protocol llava asks as LLaVA-1.5's authors do, and {directory} holds a "
            f"{type(model).__name__}; allowed: --protocol hf"
        )
    check_processor(processor_of(directory, model), model, directory, protocol)


def _checked_config(directory: Path) -> Any:
    """transformers' configuration, of a class that can be pruned and of sizes that can be."""
    import transformers

    path, raw = directory / CONFIG, read_config(directory)
    own = _checked_class(directory, raw)
    _check_sizes(path, raw, tensor_count(directory))
    with blamed(f"{path} is no configuration of a {own}"):
        config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False)
    wanted = getattr(transformers, own).config_class
    if not isinstance(config, wanted):
        raise BadInput(
            f"model_type in {path} is {wanted.model_type!r} for a {own}, not {config.model_type!r}"
        )
    _check_ranges(path, config)
    return config


def _checked_class(directory: Path, raw: Mapping[str, Any]) -> str:
    from methods.adapters import supported

    classes = raw.get("architectures")
    own = str(classes[0]) if isinstance(classes, list) and classes else "no architecture"
    if own not in supported():
        raise BadInput(
            f"{own} in {directory} is not a supported model class; "
            f"allowed: {', '.join(supported())}, as architectures in {CONFIG}"
        )
    return own


def _check_sizes(path: Path, raw: Mapping[str, Any], tensors: int) -> None:
    """Those that are given are whole numbers above 0, or one for the height and one for the width;
    a layer has at least one of the `tensors`.
    """
    for part, fields in _SIZES.items():
        flat = part == "text_config" and raw.get("model_type") in _FLAT
        own = raw.get(part, raw if flat else None)
        if not isinstance(own, dict):
            raise BadInput(f"{part} in {path} is an object, not {own!r}")
        for field in fields:
            most = tensors if field == "num_hidden_layers" else None
            value = own.get(field, 1)
            if isinstance(value, list) and field in _OF_BOTH_SIDES and len(value) == 2:
                value = min(value, key=lambda side: side if type(side) is int else 0)
            if value is None and field == "num_key_value_heads":
                continue
            if type(value) is not int or not 1 <= value <= (most or value):
                allowed = f"from 1 to the weights' {most} tensors" if most else "from 1 up"
                raise BadInput(
                    f"{part}.{field} in {path} is a whole number {allowed}, not {value!r}"
                )


def _check_ranges(path: Path, config: Any) -> None:
    vision, words = config.vision_config, config.get_text_config().vocab_size
    side = getattr(vision, "image_size", None)
    if isinstance(side, int) and vision.patch_size > side:
        raise BadInput(
            f"vision_config.patch_size in {path} is a whole number from 1 to image_size "
            f"{vision.image_size}, not {vision.patch_size}"
        )
    token = config.image_token_id
    if type(token) is not int or not 0 <= token < words:
        raise BadInput(
            f"image_token_index in {path} is a token of the vocabulary, 0 to {words - 1}, "
            f"not {token!r}"
        )


def _model_without_values(directory: Path, config: Any) -> Any:
    """The model on the meta device, all of whose tensors are in the weights."""
    import torch
    from transformers import AutoModelForImageTextToText

    from methods import PruningError
    from methods.adapters import adapter_for

    with blamed(f"{directory / CONFIG} makes no model that {directory} could fill"):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            device_map="meta",
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model, found = loaded
    try:
        adapter_for(model)
    except PruningError as error:
        raise BadInput(f"{directory / CONFIG}: {error}") from error
    _check_weights(found, directory)
    return model


def _check_weights(found: Mapping[str, Any], directory: Path) -> None:
    """Raises BadInput unless `found`, transformers' report, has every tensor in its place."""
    if found["missing_keys"]:
        missing = min(found["missing_keys"])
        raise BadInput(
            f"the weights in {directory} lack tensors, such as {missing}, that {CONFIG} asks for"
        )
    if found["mismatched_keys"]:
        name, own, wanted = min(found["mismatched_keys"])
        raise BadInput(
            f"the weights in {directory} do not fit {CONFIG}: {name} is {list(own)}, "
            f"and its sizes ask for {list(wanted)}"
        )
    # what else is left over, such as buffers of older versions, decides nothing
    beyond = [name for name in found["unexpected_keys"] if ".layers." in name]
    if beyond:
        raise BadInput(
            f"the weights in {directory} have layers that {CONFIG} does not name, such as "
            f"{min(beyond)}; num_hidden_layers is the number of all"
        )
