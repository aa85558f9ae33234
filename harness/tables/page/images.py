"""The image and the question of a recorded sample, where they can be had again."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from harness.embedded import benchmark
from harness.records.digests import image_digest


@dataclass(frozen=True)
class Asked:
    """What a sample was about."""

    question: str
    image: Image.Image


def asked(task: str, item: str, digest: str) -> Asked | None:
    """The sample's question and image; None for tasks whose images are not drawn here.

    None also if the image is not the one that was measured, by the start of its digest.
    """
    number = item.rpartition("/")[2]
    if task not in benchmark.TASKS or not number.isdecimal():
        return None
    items = benchmark.items(task)
    if int(number) >= len(items):
        return None
    found = items[int(number)]
    image = Image.fromarray(benchmark.image(found.image_id))
    return Asked(found.question, image) if image_digest(image).startswith(digest) else None


def jpeg(image: Image.Image) -> bytes:
    """To look at, as small as the page wants it: what was measured had no such loss."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()
