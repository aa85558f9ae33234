"""What is trained, for how long and on what: the phases of a training run, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.embedded.training.batches import Recipe
from harness.embedded.training.guides import NAMED


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How many steps at which learning rate.

    It falls from `rate` to `last` * rate along a cosine of `curve` steps, by default the phase's,
    after `warm` steps. `check` steps lie between two held-out evaluations. A step's gradient is the
    mean of `parts` parts'.
    """

    name: str
    steps: int
    rate: float
    last: float
    warm: int = 30
    check: int = 10_000
    curve: int = 0
    parts: int = 1


@dataclass(frozen=True, kw_only=True)
class Phase(Steps):
    """One stage: how many steps on what and with which layers.

    layers 0 trains the tower with its heads alone; otherwise every (32 / layers)-th decoder layer
    is in use. The tower's share of the rate is `tower_rate`, 0 freezes it. `naming` is what patches
    are made to name, which starts a decoder that has learnt nothing yet, `pointing` the weight of
    what makes heads look at what is asked about.
    """

    recipe: Recipe
    layers: int
    tower_rate: float
    naming: tuple[str, ...] = ()
    pointing: float = 0.0


TOWER = Recipe(48, 8, 0, 3, 0)
ANSWERS = Recipe(40, 8, 1, 3, 12)
SHAPES_FIRST = Recipe(16, 24, 3, 8, 18, (128, 192), by_shape=0.7, blind=2)
WHOLE = Recipe(8, 24, 3, 8, 14, by_shape=0.5, blind=1)
FOUND = ("shape", "colour", "place")
FULL = (
    Phase(
        name="tower",
        steps=2200,
        recipe=TOWER,
        layers=0,
        rate=1.5e-3,
        last=0.02,
        tower_rate=1.0,
        warm=60,
        curve=4000,
    ),
    Phase(
        name="tower-settles",
        steps=300,
        recipe=TOWER,
        layers=0,
        rate=0.7e-3,
        last=0.05,
        tower_rate=1.0,
        warm=1,
    ),
    Phase(
        name="answers-8",
        steps=2400,
        recipe=ANSWERS,
        layers=8,
        rate=1.5e-3,
        last=0.6,
        tower_rate=0.0,
        naming=NAMED,
    ),
    Phase(
        name="answers-12",
        steps=800,
        recipe=Recipe(24, 12, 2, 4, 14),
        layers=16,
        rate=1.0e-3,
        last=0.6,
        tower_rate=0.125,
        naming=NAMED,
    ),
    Phase(
        name="whole-16",
        steps=400,
        recipe=replace(WHOLE, images=12),
        layers=16,
        rate=8e-4,
        last=0.4,
        tower_rate=0.125,
        pointing=0.5,
    ),
    Phase(
        name="whole-32",
        steps=400,
        recipe=replace(WHOLE, images=10),
        layers=32,
        rate=5e-4,
        last=0.02,
        tower_rate=0.125,
        check=100,
    ),
)
"""From scratch: an hour or more on two cores with bfloat16 matrix units, minutes on a GPU.

Only the phases of the tower and parts of answers-8 have been run so far.
"""
CONTINUED = (
    Phase(
        name="shapes-32",
        steps=320,
        recipe=SHAPES_FIRST,
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
        name="whole-32",
        steps=340,
        recipe=WHOLE,
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
    Phase(
        name="tower",
        steps=300,
        recipe=TOWER,
        layers=0,
        rate=1.5e-3,
        last=0.1,
        tower_rate=1.0,
        warm=60,
    ),
    Phase(
        name="answers-8",
        steps=150,
        recipe=ANSWERS,
        layers=8,
        rate=1.5e-3,
        last=0.1,
        tower_rate=0.0,
        naming=NAMED,
    ),
)
