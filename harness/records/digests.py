"""Names of images by what they show; without torch, for whoever looks at records."""

from __future__ import annotations

import hashlib

from PIL import Image


def image_digest(image: Image.Image) -> str:
    """Hex SHA-256 of the decoded pixels, so that equal images of different files are one."""
    head = f"{image.mode} {image.size} ".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()
