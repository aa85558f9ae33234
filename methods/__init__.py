"""Visual token pruning on stock Hugging Face models.

    from methods import Budget, attach, get_method

    with attach(model, get_method("vitcop"), Budget(64)) as trace:
        model.generate(**inputs)
    trace.prefills[-1].entering  # visual tokens that entered each decoder layer, counted
"""

from methods.interface import (
    Budget,
    Cut,
    DecoderStage,
    EncoderStage,
    InfeasibleBudgetError,
    Method,
    Plan,
    PruningError,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.registry import get_method, methods, register
from methods.runtime import attach

__all__ = [
    "Budget",
    "Cut",
    "DecoderStage",
    "EncoderStage",
    "InfeasibleBudgetError",
    "Method",
    "Plan",
    "PruningError",
    "Read",
    "Segment",
    "Selection",
    "Sizes",
    "View",
    "attach",
    "get_method",
    "methods",
    "register",
]
