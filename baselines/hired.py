"""HiRED: attention-guided token dropping. https://arxiv.org/abs/2408.10945 (AAAI 2025)

A budget is shared out over the crops of a picture by what the CLS row attends to in an early
layer of the tower. Each crop keeps the patches that its own CLS row attends to most, near the
tower's end. LLaVA-1.5 has one crop, so only the second step is left: FasterVLM's selection.

The code adds over heads where FasterVLM averages, which ranks the same, and keeps int(N · rate);
ours keeps B exactly. Several images are ours: each keeps its share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from baselines.fastervlm import FasterVLM
from methods.registry import register


@register("hired")
@dataclass(frozen=True)
class HiRED(FasterVLM):
    label: ClassVar[str] = "HiRED"
    venue: ClassVar[str] = "AAAI 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2408.10945"
    crops: ClassVar[bool] = False
