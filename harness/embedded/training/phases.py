"""What is trained, for how long and on what: the phases of a training run, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.embedded.training.batches import Recipe
from harness.embedded.training.guides import NAMED


@dataclass(frozen=True)
class Phase:
    """One stage: how many steps on what, with which layers and which learning rates.

    layers 0 trains the tower with its heads alone; otherwise every (32 / layers)-th decoder layer
    is in use. The rate falls from `rate` to `last` * rate along a cosine of `curve` steps, by
    default the phase's; the tower's share of it is `tower_rate`, 0 freezes it. `check` steps lie
    between two held-out evaluations. A step's gradient is the mean of `parts` parts'. `naming`
    is what patches are made to name, which starts a decoder that has learnt nothing yet, `pointing`
    the weight of what makes heads look at what is asked about.
    """

    name: str
    steps: int
    recipe: Recipe
    layers: int
    rate: float
    last: float
    tower_rate: float
    warm: int = 30
    check: int = 10_000
    curve: int = 0
    parts: int = 1
    naming: tuple[str, ...] = ()
    pointing: float = 0.0


SHAPES_FIRST = Recipe(16, 24, 3, 8, 18, (128, 192), by_shape=0.7, blind=2)
WHOLE = Recipe(8, 24, 3, 8, 14, by_shape=0.5, blind=1)
FOUND = ("shape", "colour", "place")
FULL = (
    Phase("tower", 2200, Recipe(48, 8, 0, 3, 0), 0, 1.5e-3, 0.02, 1.0, warm=60, curve=4000),
    Phase("tower-settles", 300, Recipe(48, 8, 0, 3, 0), 0, 0.7e-3, 0.05, 1.0, warm=1),
    Phase("answers-8", 2400, Recipe(40, 8, 1, 3, 12), 8, 1.5e-3, 0.6, 0.0, naming=NAMED),
    Phase("answers-12", 800, Recipe(24, 12, 2, 4, 14), 16, 1.0e-3, 0.6, 0.125, naming=NAMED),
    Phase("whole-16", 400, replace(WHOLE, images=12), 16, 8e-4, 0.4, 0.125, pointing=0.5),
    Phase("whole-32", 400, replace(WHOLE, images=10), 32, 5e-4, 0.02, 0.125, check=100),
)
"""From scratch: an hour or more on two cores with bfloat16 matrix units, minutes on a GPU.

Only the phases of the tower and parts of answers-8 have been run so far.
"""
CONTINUED = (
    Phase(
        "shapes-32",
        320,
        SHAPES_FIRST,
        layers=32,
        rate=8e-4,
        last=0.5,
        tower_rate=0.0,
        check=160,
        parts=2,
        naming=FOUND,
        pointing=1.0,
    ),
    Phase(
        "whole-32",
        340,
        WHOLE,
        layers=32,
        rate=4e-4,
        last=0.02,
        tower_rate=0.125,
        warm=15,
        check=170,
        parts=2,
        naming=FOUND,
        pointing=0.2,
    ),
)
"""From a model that answers already, `--init`; the last run of the shipped weights."""
SHIPPED_SEED = 10
REDUCED = (
    Phase("tower", 300, Recipe(48, 8, 0, 3, 0), 0, 1.5e-3, 0.1, 1.0, 60),
    Phase("answers-8", 150, Recipe(40, 8, 1, 3, 12), 8, 1.5e-3, 0.1, 0.0, naming=NAMED),
)
