"""A checkpoint's processor: loaded, and held against its model by asking about a blank image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import BadInput, blamed
from harness.models.files import CONFIG, PROCESSOR, read_object
from harness.models.protocols import Protocol
from harness.models.shapes import shape_of

_PARTS = ("tokenizer", "image_processor", "image_token")
_SIDE = 448
"""Of the blank image, in pixels, where a model takes images of any size."""
_QUESTION = "how many objects ?"


def processor_of(directory: Path, model: Any) -> Any:
    """The processor in a directory, with what its files do not say of `model`. Raises BadInput."""
    from transformers import AutoProcessor

    with blamed(f"the processor in {directory} cannot be loaded"):
        processor = AutoProcessor.from_pretrained(directory, trust_remote_code=False)
    path = directory / PROCESSOR
    given = read_object(path) if path.is_file() else {}
    for field, value in _said_by(model).items():
        if given.get(field) is None and hasattr(processor, field):
            setattr(processor, field, value)
    if not getattr(processor, "chat_template", None):
        tokenizer = getattr(processor, "tokenizer", None)
        processor.chat_template = getattr(tokenizer, "chat_template", None)
    return processor


def _said_by(model: Any) -> dict[str, Any]:
    """What processors of before 2025 left to the model."""
    from methods.adapters import adapter_for

    config = model.config
    return {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
        "num_additional_image_tokens": int(adapter_for(model).has_cls),
    }


def check_processor(processor: Any, model: Any, directory: Path, protocol: Protocol) -> None:
    """Asks a question about a blank image, up to the model's inputs. Raises BadInput."""
    from PIL import Image

    where, vision = f"the processor in {directory}", model.config.vision_config
    _check_parts(processor, where, vision.patch_size)
    text = _asked(processor, directory, protocol)
    side = getattr(vision, "image_size", _SIDE)
    blank = Image.new("RGB", (side, side) if isinstance(side, int) else tuple(side))
    with blamed(f"{where} fails on a question about an image"):
        ids, inputs = protocol.encoded(processor, model, text, [blank])
    found, wanted = int((ids == model.config.image_token_id).sum()), shape_of(model)
    if found != (wanted.image_tokens or max(found, 1)):
        raise BadInput(
            f"{where} makes {found} tokens {model.config.image_token_id}, image_token_index in "
            f"{CONFIG}, of an image, and the model takes {wanted.image_tokens or 'some'}"
        )
    if ids.max() >= wanted.vocabulary:
        raise BadInput(
            f"{where} makes token {int(ids.max())}, and text_config.vocab_size in {CONFIG} is "
            f"{wanted.vocabulary}"
        )
    if wanted.image_tokens:
        _check_pixels(inputs, vision, where)


def _check_pixels(inputs: Mapping[str, Any], vision: Any, where: str) -> None:
    """Of a family whose images are of one size."""
    pixel_values = inputs.get("pixel_values")
    pixels = () if pixel_values is None else tuple(pixel_values.shape[1:])
    if pixels != (vision.num_channels, vision.image_size, vision.image_size):
        raise BadInput(
            f"{where} makes images of {pixels}, and vision_config in {CONFIG} asks for "
            f"{(vision.num_channels, vision.image_size, vision.image_size)}"
        )


def _asked(processor: Any, directory: Path, protocol: Protocol) -> str:
    """The question with one place for its image."""
    template = f"the chat template {protocol.file or f'in {directory}'}"
    if not (protocol.simple or protocol.template or getattr(processor, "chat_template", None)):
        raise BadInput(
            f"the processor in {directory} has no chat template; chat_template.jinja, "
            "--chat-template or --protocol llava is needed"
        )
    with blamed(f"{template} fails on a question about an image"):
        text = protocol.prompt(processor, _QUESTION, 1)
    if (places := text.count(processor.image_token)) != 1:
        raise BadInput(
            f"{template} has {places} places {processor.image_token!r} for the image in a question "
            "about one; allowed: 1"
        )
    return text


def _check_parts(processor: Any, where: str, patch_size: int) -> None:
    for part in _PARTS:
        if getattr(processor, part, None) is None:
            raise BadInput(f"{where} is a {type(processor).__name__} and has no {part}")
    own = getattr(processor, "patch_size", patch_size)
    if own != patch_size:
        raise BadInput(f"patch_size of {where} is {own}, and {patch_size} in {CONFIG}")
    if processor.tokenizer.pad_token is None and processor.tokenizer.eos_token is None:
        raise BadInput(f"the tokenizer of {where} has neither pad_token nor eos_token")
