"""How a question becomes token ids and pixels: as transformers asks LLaVA, or as its authors do.

`hf` is the checkpoint's own chat template and processor. `llava` is what published figures of
LLaVA-1.5 come from: the authors' code as lmms-eval's model `llava` calls it. Nothing here is
imported from a model's side before it is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from harness.errors import BadInput, unknown
from harness.models.videos import Video, given

if TYPE_CHECKING:
    from torch import Tensor

HF, LLAVA = "hf", "llava"
PROTOCOLS = (HF, LLAVA)
Encoded = tuple["Tensor", Mapping[str, "Tensor"]]
"""Token ids int64 [length], and what else the model's family is given for the prompt, by name: what
belongs to its tokens [1, length], and what belongs to its images, such as pixel values.
"""
_OF_TEXT = ("input_ids", "attention_mask")

_IMAGE = "<image>"
_VICUNA_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_READ_BY_LLAVA = ("max_new_tokens", "temperature", "top_p", "num_beams")


@dataclass(frozen=True)
class Protocol:
    """The chat template and processor of the checkpoint; `template` (Jinja) replaces the former.

    `simple`: which of lmms-eval's two forms requests have; `known_as`: the model's name, by which
    tasks choose between wordings; `file`: where the template is from.
    """

    template: str | None = None
    file: Path | None = field(default=None, compare=False)
    simple = False
    known_as = "pruned"

    def identity(self) -> dict[str, str]:
        """Of a record; empty for what records of before protocols were made with."""
        if self.template is None:
            return {}
        return {"chat_template": hashlib.sha256(self.template.encode()).hexdigest()}

    def generation(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What counts of a task's generation settings."""
        return settings

    def prompt(self, processor: Any, text: str, images: int, videos: int = 0) -> str:
        """One question about so many images, and videos after them."""
        shown = [{"type": "image"}] * images + [{"type": "video"}] * videos
        content = [*shown, {"type": "text", "text": text}]
        return self.templated(processor, [{"role": "user", "content": content}])

    def templated(self, processor: Any, messages: Sequence[Mapping[str, Any]]) -> str:
        """Messages as the processors of transformers take them, as text."""
        return processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, chat_template=self.template
        )

    def encoded(
        self, processor: Any, model: Any, prompt: str, visuals: Sequence[Image.Image | Video]
    ) -> Encoded:
        """Inputs of a prompt with its images and its videos. Raises ValueError where they do not
        fit.
        """
        pictures = [v.convert("RGB") for v in visuals if isinstance(v, Image.Image)]
        videos = given([visual for visual in visuals if isinstance(visual, Video)])
        # a list in a list: some families cut an image into crops only where its prompt has no other
        images = {"images": [pictures]} if pictures else {}
        encoded = processor(text=[prompt], return_tensors="pt", **images, **videos)
        ids = encoded["input_ids"][0]
        return ids, {key: value for key, value in encoded.items() if key not in _OF_TEXT}


@dataclass(frozen=True)
class LlavaProtocol(Protocol):
    """vicuna_v1's prompt; images padded to squares with the processor's mean colour.

    Answers are not cut at a task's stop strings, as that code does not cut them either.
    """

    simple = True
    known_as = LLAVA

    def identity(self) -> dict[str, str]:
        return {"protocol": LLAVA}

    def generation(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: settings[key] for key in _READ_BY_LLAVA if key in settings}

    def prompt(self, processor: Any, text: str, images: int, videos: int = 0) -> str:
        """Of a family without videos. A text that places its images itself is left as it is."""
        if images and _IMAGE not in text:
            text = " ".join([_IMAGE] * images) + "\n" + text
        return f"{_VICUNA_V1} USER: {text} ASSISTANT:"

    def encoded(
        self, processor: Any, model: Any, prompt: str, visuals: Sequence[Image.Image | Video]
    ) -> Encoded:
        """As many images as the prompt has places; further ones are not shown."""
        import torch

        from methods.adapters import adapter_for

        images = [visual for visual in visuals if isinstance(visual, Image.Image)]
        places = prompt.count(_IMAGE)
        if places > len(images):
            raise ValueError(f"the prompt has {places} places for {len(images)} images")
        one = [model.config.image_token_id] * adapter_for(model).shape().image_tokens
        ids = torch.tensor(_joined(processor.tokenizer, prompt.split(_IMAGE), one))
        if not places:
            return ids, {}
        side = model.config.vision_config.image_size
        pixels = [_pixels(image, side, processor.image_processor) for image in images[:places]]
        return ids, {"pixel_values": torch.stack(pixels)}


OWN = Protocol()
"""The checkpoint's own chat template and processor."""


def protocol_of(name: str, chat_template: Path | None = None) -> Protocol:
    """Raises BadInput for an unknown name, and for a template that is not read or has no effect."""
    if name not in PROTOCOLS:
        raise unknown("--protocol", name, PROTOCOLS)
    if chat_template is None:
        return OWN if name == HF else LlavaProtocol()
    if name == LLAVA:
        raise BadInput("--chat-template has no effect with --protocol llava, whose prompt is fixed")
    try:
        text = chat_template.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise BadInput(f"--chat-template {chat_template} cannot be read: {reason}") from error
    return Protocol(text, chat_template)


def _joined(tokenizer: Any, parts: Sequence[str], image: Sequence[int]) -> list[int]:
    """The parts tokenised one by one with `image` between them; one token begins the whole."""
    tokens = [tokenizer(part)["input_ids"] for part in parts]
    begin = tokens[0][:1] if tokens[0][:1] == [tokenizer.bos_token_id] else []
    ids = list(begin)
    for number, own in enumerate(tokens):
        ids += [*(image if number else ()), *own[len(begin) :]]
    return ids


def _pixels(image: Image.Image, side: int, processor: Any) -> Tensor:
    """float32 [3, side, side]: made a square, resized in whole grey values, normalised."""
    import numpy as np
    import torch

    square = _square(image.convert("RGB"), processor.image_mean)
    resized = square.resize((side, side), Image.Resampling(processor.resample))
    values = (np.asarray(resized) * processor.rescale_factor).astype(np.float32)
    mean, deviation = (
        np.array(each, np.float32) for each in (processor.image_mean, processor.image_std)
    )
    return torch.from_numpy((values - mean) / deviation).permute(2, 0, 1).contiguous()


def _square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """The image in the middle of a square of the mean colour, rounded down."""
    longest = max(image.size)
    if image.size == (longest, longest):
        return image
    square = Image.new("RGB", (longest, longest), tuple(int(255 * part) for part in mean))
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    return square
