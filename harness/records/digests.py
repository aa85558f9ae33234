"""Names of images and videos by what they show; without torch, for whoever looks at records."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np


def image_digest(image: Image.Image) -> str:
    """Hex SHA-256 of the decoded pixels, so that equal images of different files are one."""
    head = f"{image.mode} {image.size} ".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def video_digest(frames: np.ndarray) -> str:
    """Hex SHA-256 of frames uint8 [frames, height, width, 3], so that a video is one thing."""
    head = f"video {frames.shape} ".encode()
    return hashlib.sha256(head + frames.tobytes()).hexdigest()
