"""Visual token pruning on stock Hugging Face models.

from methods import Budget, attach, get_method

with attach(model, get_method("vitcop"), Budget(64)) as trace:
    model.generate(**inputs)
trace.prefills[-1].entering  # visual tokens that entered each decoder layer, counted
"""

from typing import TYPE_CHECKING, Any

from methods.interface import (
    Budget,
    Cut,
    DecoderStage,
    EncoderStage,
    InfeasibleBudgetError,
    MechanismError,
    Method,
    OfLayer,
    Plan,
    PruningError,
    Read,
    Segment,
    Selection,
    Sizes,
    TowerStage,
    View,
)
from methods.registry import get_method, methods, register

if TYPE_CHECKING:
    from methods.runtime import attach

__all__ = [
    "Budget",
    "Cut",
    "DecoderStage",
    "EncoderStage",
    "InfeasibleBudgetError",
    "MechanismError",
    "Method",
    "OfLayer",
    "Plan",
    "PruningError",
    "Read",
    "Segment",
    "Selection",
    "Sizes",
    "TowerStage",
    "View",
    "attach",
    "get_method",
    "methods",
    "register",
]


def __getattr__(name: str) -> Any:
    # plans and formulas need no transformers, whose import takes seconds
    if name == "attach":
        from methods.runtime import attach

        return attach
    raise AttributeError(f"module 'methods' has no attribute {name!r}")
