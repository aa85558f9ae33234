"""Tiny videos, written by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image


def write_video(
    path: Path, pictures: Sequence[Image.Image], codec: str = "mpeg4", rate: int = 4, **options: int
) -> None:
    """A frame a picture; `options` are the codec's, such as `bf`, frames that refer to later
    ones, and `g`, frames from one key frame to the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        stream.options = {name: str(value) for name, value in options.items()}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture.convert("RGB"))))
        container.mux(stream.encode())


def greys(count: int, size: tuple[int, int] = (48, 32)) -> list[Image.Image]:
    """From dark to light, no two alike."""
    return [Image.new("RGB", size, (i * 255 // count,) * 3) for i in range(count)]


def in_order(path: Path) -> list[np.ndarray]:
    """All frames of a file as they are decoded from its beginning on."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
