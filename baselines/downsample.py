"""Control: fewer pixels. The unpruned model sees the image at a size of at most B visual tokens.

What a method has to beat where a model takes images of any size: no token is dropped, the picture
is made smaller before the processor. Rows and columns are whole, so that fewer than B tokens may
enter; none is left out. Nothing is cut in the model: what asks it makes the picture smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from methods.interface import Method, Plan, PruningError, Sizes
from methods.registry import register


@register("downsample")
@dataclass(frozen=True)
class Downsample(Method):
    label: ClassVar[str] = "Downsample"
    cuts: ClassVar[str] = "the picture, before the processor"
    resizes: ClassVar[bool] = True

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        raise PruningError(
            f"{self.label} is not defined here: it makes the pictures of questions smaller, and a "
            "prompt that is encoded already keeps its size"
        )
