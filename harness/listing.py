"""What there is to choose from: methods, models, tasks."""

from __future__ import annotations

from harness.cells import UNPRUNED
from harness.numbers import number
from harness.render import Column, Table

LAYERS, GRID = 32, 24
"""LLaVA-1.5: 32 decoder layers, 24 x 24 patches an image."""


def methods_tables() -> list[Table]:
    """Every registered method with its paper, and the budgets that it can meet on LLaVA-1.5."""
    from methods.interface import Method, Segment, Sizes
    from methods.registry import get_method, methods

    sizes = Sizes(LAYERS, (Segment(GRID, GRID),))

    def feasible(method: Method) -> str:
        low, high = method.feasible(sizes)
        if low is None or method.name == UNPRUNED:
            return ""
        return f"{low}–{sizes.tokens if high == sizes.tokens - 1 else high}"

    built = [get_method(name) for name in methods()]
    rows = tuple(
        ((m.name,), (m.label,), (m.venue,), (m.cuts,), (feasible(m),), (m.link,)) for m in built
    )
    titles = ("Name", "Method", "Venue", "Cuts", "Budgets", "Link")
    note = f"Budgets: visual tokens a layer, of {sizes.tokens} in {LAYERS} layers."
    return [Table("Methods", _columns(*titles), rows, notes=(note,))]


def models_tables() -> list[Table]:
    """The models that come with the package, and what to hold the embedded one's accuracy against.

    Any directory of a supported class is a model, too.
    """
    from harness.embedded import yardsticks
    from harness.models import NAMED
    from methods.adapters import supported

    rows = (
        *(((name,), (what,)) for name, what in NAMED.items()),
        (("DIRECTORY",), (f"a checkpoint with its processor: {', '.join(supported())}",)),
    )
    return [Table("Models", _columns("Name", "What it is"), rows), yardsticks.table()]


def tasks_tables() -> list[Table]:
    """The embedded tasks; lmms-eval's are hundreds, known by name."""
    from harness.embedded import benchmark

    rows = tuple(
        ((task,), (str(len(benchmark.items(task))),), (number(100 * benchmark.majority(task)),))
        for task in benchmark.TASKS
    )
    columns = (
        Column("Name", ("name",), left=True),
        Column("Questions", ("questions",)),
        Column("Majority answer %", ("majority_percent",)),
    )
    note = (
        f"{benchmark.GROUP!r} stands for all of these. Any task of lmms-eval that generates one "
        "answer works by its name, where its data is at hand: --tasks pope,gqa."
    )
    return [Table("Tasks", columns, rows, notes=(note,))]


def _columns(*titles: str) -> tuple[Column, ...]:
    return tuple(Column(title, (title.lower(),), left=True) for title in titles)
