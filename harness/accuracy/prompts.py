"""Questions with their images, and the prompts that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from harness.models.videos import Video
from harness.records.digests import image_digest, video_digest

Visual = Image.Image | Video


@dataclass(frozen=True)
class Question:
    """`item` names it for good; `read` gives its prompt, and its images and its videos, each in
    prompt order.

    `read` decodes images, so it is called only for what is not known yet. `text`: what the task
    asks, as it stands before a chat template is put around it.
    """

    item: str
    read: Callable[[], tuple[str, Sequence[Visual]]]
    text: str = ""


@dataclass(frozen=True)
class Prompt:
    """What is kept of a question: token ids int64 [length], unpadded, the digests of its images
    and videos, and how many visual tokens the images as they are have.
    """

    input_ids: Tensor
    images: tuple[str, ...]
    visual: int = 0


Inputs = Mapping[str, Tensor]
"""What a model is given of a prompt beside its token ids, as `Encoded` has it."""


def digest_of(visual: Visual) -> str:
    return image_digest(visual) if isinstance(visual, Image.Image) else video_digest(visual.frames)
