"""What a method's author imports: a budget and integer sizes in, a plan out; stages that turn views
into cuts.

Nothing here knows of models, hooks, caches or position ids. A method is a frozen dataclass whose
fields are its settings. Every tensor that a stage sees or returns has a leading batch dimension,
and every row of one batch has the same counts: the runtime groups samples by `Sizes`, so counts are
plain integers and no selection has to wait for the device.
"""

from methods.errors import InfeasibleBudgetError, MechanismError, PruningError
from methods.method import Method
from methods.plan import (
    Cut,
    DecoderStage,
    EncoderStage,
    NewTokens,
    Plan,
    Positions,
    Selection,
    TowerStage,
)
from methods.reads import AnyRead, OfLayer, Read, TextRows, View
from methods.sizes import Budget, Crops, Newline, Part, Segment, Sizes

__all__ = [
    "AnyRead",
    "Budget",
    "Crops",
    "Cut",
    "DecoderStage",
    "EncoderStage",
    "InfeasibleBudgetError",
    "MechanismError",
    "Method",
    "NewTokens",
    "Newline",
    "OfLayer",
    "Part",
    "Plan",
    "Positions",
    "PruningError",
    "Read",
    "Segment",
    "Selection",
    "Sizes",
    "TextRows",
    "TowerStage",
    "View",
]
