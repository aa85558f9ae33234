"""What a directory that holds no usable checkpoint is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.models.load import resolve


def refused(directory: Path) -> str:
    with pytest.raises(BadInput) as caught:
        resolve(str(directory), "cpu")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(directory) in sentence
    return sentence
