"""What there is to choose from: methods, models, tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records.cell import UNPRUNED
from harness.tables.numbers import number
from harness.tables.table import Brief, Column, Parts, Table

if TYPE_CHECKING:
    from methods.interface import Plan

LAYERS, GRID = 32, 24
"""LLaVA-1.5: 32 decoder layers, 24 x 24 patches an image."""


def methods_tables() -> list[Table]:
    """Every registered method with its paper, what it needs to see, and the budgets that it can
    meet on LLaVA-1.5.
    """
    from methods.interface import Budget, Method, PruningError, Segment, Sizes
    from methods.registry import get_method, methods

    sizes = Sizes(LAYERS, (Segment(GRID, GRID),))

    def feasible(method: Method) -> str:
        low, high = method.feasible(sizes)
        if low is None or method.name == UNPRUNED:
            return ""
        return f"{low}–{sizes.tokens if high == sizes.tokens - 1 else high}"

    def seen(m: Method) -> tuple[str, str, str]:
        """What its plan for one image says; nothing where it has none."""
        try:
            plan = m.plan(Budget(max(m.feasible(sizes)[0] or 0, 64)), sizes)
        except PruningError:
            return "", "", ""
        first = "yes" if all(stage.first == 0 for stage in plan.decoder) else "no"
        return needs(plan), "" if m.name == UNPRUNED else first, feasible(m)

    def row(m: Method) -> tuple[Parts, ...]:
        told = (m.name, m.label, m.venue, m.cuts, *seen(m), m.link)
        return tuple((text,) for text in told)

    rows = tuple(row(get_method(name)) for name in methods())
    titles = ("Name", "Method", "Venue", "Cuts", "Needs", "Before decoder", "Budgets", "Link")
    notes = (
        f"Budgets: visual tokens a layer, of {sizes.tokens} in {LAYERS} layers. Needs: what a "
        "stage reads beside states and keys. Before decoder: all cuts are made before layer 0, so "
        "that a serving engine can be handed what is left. Empty: not defined for one such image.",
    )
    columns = _columns(*titles, drops=(0, 5, 2, 0, 3, 4, 0, 6))
    return [Table("Methods", columns, rows, notes=notes)]


def needs(plan: Plan) -> str:
    """Attention weights, the tower's CLS row, the question: what the plan's stages read of it."""
    from methods.interface import OfLayer, Read

    seen = [read for stage in plan.stages for read in stage.reads]
    read = {each.read if isinstance(each, OfLayer) else each for each in seen}
    question = {
        *(Read.TEXT_HIDDEN, Read.NORMED_TEXT, Read.TEXT_KEYS, Read.TEXT_ATTENTION),
        *(Read.LAST_ATTENTION, Read.NEXT_LAST_ATTENTION, Read.UNROTATED_QUERY),
    }
    found = {
        "attention": any("attention" in each for each in read),
        "CLS": bool(read & {Read.CLS_QUERY, Read.CLS_ATTENTION}),
        "question": bool(read & question),
    }
    return ", ".join(name for name, needed in found.items() if needed)


def models_tables() -> list[Table]:
    """The models that come with the package, and what to hold the embedded one's accuracy against.

    Any directory of a supported class is a model, too.
    """
    from harness.models.load import NAMED
    from harness.tables import yardsticks
    from methods.adapters import supported

    rows = (
        *(((name,), (what,)) for name, what in NAMED.items()),
        (("DIRECTORY",), (f"a checkpoint with its processor: {', '.join(supported())}",)),
    )
    return [
        Table("Models", _columns("Name", "What it is"), rows),
        *map(yardsticks.table, yardsticks.FILES),
    ]


def tasks_tables() -> list[Table]:
    """The embedded tasks; lmms-eval's are hundreds, known by name."""
    from harness.embedded.benchmarks import BENCHMARKS

    rows = tuple(
        ((task,), (str(len(each.items(task))),), (number(100 * each.majority(task)),))
        for each in BENCHMARKS
        for task in each.tasks
    )
    columns = (
        Column("Name", ("name",), left=True),
        Column("Questions", ("questions",)),
        Column("Majority answer %", ("majority_percent",)),
    )
    groups = " and ".join(repr(each.group) for each in BENCHMARKS)
    note = (
        f"{groups} stand for the five of each. Any task of lmms-eval that generates one "
        "answer works by its name, where its data is at hand: --tasks pope,gqa."
    )
    return [Table("Tasks", columns, rows, notes=(note,))]


def _columns(*titles: str, drops: Sequence[int] = ()) -> tuple[Column, ...]:
    """`drops`: which of them go first where width lacks; without it none does."""
    briefs: list[tuple[Brief, ...]] = [(Brief(drops=rank),) for rank in drops]
    briefs = briefs or [()] * len(titles)
    return tuple(
        Column(title, (title.lower().replace(" ", "_"),), left=True, briefs=brief)
        for title, brief in zip(titles, briefs, strict=True)
    )
