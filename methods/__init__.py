"""Visual token pruning on stock Hugging Face models.

from methods import Budget, attach, get_method

with attach(model, get_method("vitcop"), Budget(64)) as trace:
    model.generate(**inputs)
trace.prefills[-1].entering  # visual tokens that entered each decoder layer, counted
"""

from typing import TYPE_CHECKING, Any

from methods.errors import InfeasibleBudgetError, MechanismError, PruningError
from methods.method import Method
from methods.plan import Cut, DecoderStage, EncoderStage, Plan, Selection, TowerStage
from methods.reads import OfLayer, Read, View
from methods.registry import get_method, methods, register
from methods.sizes import Budget, Segment, Sizes

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
