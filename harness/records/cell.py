"""A cell of the comparison: a method with its settings, a budget and a seed.

Knows methods by name only; the torch side is imported by `MethodSpec.build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import BadInput
from harness.records.share import Share

if TYPE_CHECKING:
    from methods.interface import Budget, Method

UNPRUNED = "unpruned"
CONTROLS = ("uniform", "random")


@dataclass(frozen=True)
class MethodSpec:
    """A method's name and the settings given for it, as text: `sparsevlm:variant=plus`.

    `settings` are sorted by name, so that equal specifications are equal values. `file` is the
    user's own file that the class `name` is taken from; None for a registered method. `digest`
    pins what the file held, should it be edited while it is measured.
    """

    name: str
    settings: tuple[tuple[str, str], ...] = ()
    file: Path | None = None
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """Reads `NAME` or `FILE.py:CLASS`, each with any `:key=value`. Raises BadInput."""
        name, *pairs = (part.strip() for part in text.split(":"))
        file = None
        if name.endswith(".py"):
            if not pairs or "=" in pairs[0]:
                raise BadInput(f"a method of your own is FILE.py:CLASS, not {text!r}")
            file, name = Path(name), pairs.pop(0)
            if set("@#") & set(file.name):
                raise BadInput(f"{file.name} cannot hold a method: rename it without @ and #")
        if not name:
            raise BadInput(f"a method is NAME or NAME:SETTING=VALUE, not {text!r}")
        settings: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not (key and equals and value):
                raise BadInput(f"a method's setting is written {name}:SETTING=VALUE, not {text!r}")
            if key in settings:
                raise BadInput(f"{name} is given {key} twice in {text!r}")
            settings[key] = value
        return cls(name, tuple(sorted(settings.items())), file)

    @property
    def known_as(self) -> str:
        """`fastv`, or `my_method.py:NormPrune`."""
        return self.name if self.file is None else f"{self.file.name}:{self.name}"

    @property
    def text(self) -> str:
        return ":".join([self.known_as, *(f"{key}={value}" for key, value in self.settings)])

    def pinned(self) -> MethodSpec:
        """What a user's file holds now, whatever becomes of it. Raises PruningError as `build`."""
        if self.file is None or self.digest:
            return self
        from methods.registry import file_digest

        return replace(self, digest=file_digest(self.file))

    def build(self) -> Method:
        """The method itself. Raises methods.PruningError for an unknown name or setting."""
        from methods.registry import get_method, load_method

        if self.file is not None:
            return load_method(self.file, self.name, self.digest, **dict(self.settings))
        return get_method(self.name, **dict(self.settings))

    def file_identity(self) -> dict[str, str]:
        """Digest of the user's own file and of what it imports, if the method is from one."""
        return {} if self.file is None else {"method_file": self.pinned().digest}

    def described(self) -> dict[str, str]:
        """How tables call the method, and where it was published."""
        method = self.build()
        if self.file is None:
            own = {key: getattr(method, key) for key in ("label", "venue", "link")}
            return {"name": self.name, **own}
        # what a class inherits is said of another method
        own = {key: str(vars(type(method)).get(key, "")) for key in ("label", "venue", "link")}
        label = own["label"] or self.name
        place = self.file.name if label == self.name else self.known_as
        return {"name": self.known_as, **own, "label": f"{label} ({place})"}


Amount = int | Share
"""A budget: visual tokens a layer, or a share of each sample's own."""


def amount_of(text: str) -> Amount:
    """Reads `192`, `33%` and `1/9`. Raises ValueError."""
    if not text.isdecimal():
        return Share.parse(text)
    if int(text) < 1:
        raise ValueError(f"{text!r} is no budget")
    return int(text)


class Asked(NamedTuple):
    """What a row of a table is of: a method with its settings, as a cell writes them, and a budget,
    of tokens or of their FLOPs.
    """

    method: str
    budget: Amount | None
    in_flops: bool = False

    @property
    def is_unpruned(self) -> bool:
        return self.budget is None

    @property
    def amount(self) -> tuple[Amount | None, bool]:
        """Equal for all rows of one block of a table."""
        return self.budget, self.in_flops

    @property
    def series(self) -> Asked:
        """Without its number: equal along the line of a figure."""
        return self._replace(budget=None)

    @property
    def tokens_label(self) -> str:
        """`192 tokens`, `33 % of the tokens`, `192 tokens in FLOPs`; nothing for unpruned."""
        if isinstance(self.budget, Share):
            return f"{self.budget.words} of the tokens"
        of = " in FLOPs" if self.in_flops else ""
        return "" if self.budget is None else f"{self.budget} tokens{of}"

    @property
    def budget_label(self) -> str:
        """`192`, `33%`; `192 in FLOPs` where it costs what so many tokens in every layer cost."""
        return "" if self.budget is None else f"{self.budget}{' in FLOPs' if self.in_flops else ''}"


@dataclass(frozen=True)
class Cell:
    """One row of work: `budget` in visual tokens a layer, or as a share of each sample's; None
    leaves the model unpruned.

    `matched`: the tokens at which the method costs the FLOPs of `budget` tokens in every layer,
    where that is what was asked for (`--match flops`).
    """

    method: MethodSpec
    budget: Amount | None
    seed: int = 0
    matched: int | None = None

    @property
    def tokens(self) -> Amount | None:
        """What the method is solved for."""
        return self.budget if self.matched is None else self.matched

    @property
    def is_unpruned(self) -> bool:
        return self.budget is None

    @property
    def asked(self) -> Asked:
        """What the cell has in common with others of its row: those of other seeds, and those that
        cost the same by other tokens.
        """
        return Asked(self.method.text, self.budget, self.matched is not None)

    @property
    def text(self) -> str:
        """`fastv@64`, `fastv@33%`, `fastv@64=61`, `random@64#3`, `unpruned`; no seed is 0."""
        budget = "" if self.budget is None else f"@{self.budget}"
        matched = "" if self.matched is None else f"={self.matched}"
        return self.method.text + budget + matched + (f"#{self.seed}" if self.seed else "")

    @property
    def order(self) -> tuple[bool, bool, Fraction, bool, int, str]:
        """Sorts the rows of a table: unpruned, then from large budgets to small, shares after
        tokens, of one number that of tokens before that of FLOPs, controls last.
        """
        name, in_flops = self.method.known_as, self.matched is not None
        control = CONTROLS.index(name) + 1 if name in CONTROLS else 0
        size = -Fraction(self.budget or 0)
        is_share = isinstance(self.budget, Share)
        return not self.is_unpruned, is_share, size, in_flops, control, self.method.text

    @property
    def budget_body(self) -> int | str | None:
        """As JSON holds it."""
        return str(self.budget) if isinstance(self.budget, Share) else self.budget

    def identity(self) -> dict[str, Any]:
        """Of its records: with all settings, also those left at their defaults, as JSON values."""
        return {
            "method": self.method.known_as,
            "settings": {k: _json(v) for k, v in self.method.build().settings().items()},
            "budget": self.budget_body,
            **({} if self.matched is None else {"matched": self.matched}),
            "seed": self.seed,
            **self.method.file_identity(),
        }

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Inverse of `text`. Raises BadInput."""
        rest, _, seed = text.partition("#")
        method, _, amount = rest.partition("@")
        budget, _, matched = amount.partition("=")
        try:
            return cls(
                MethodSpec.parse(method),
                amount_of(budget) if budget else None,
                int(seed) if seed else 0,
                int(matched) if matched else None,
            )
        except ValueError:
            raise BadInput(f"a cell is METHOD@BUDGET#SEED, not {text!r}") from None


def _json(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_json(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def unpruned(seed: int = 0) -> Cell:
    """The cell that every other is compared with."""
    return Cell(MethodSpec(UNPRUNED), None, seed)


def budget_of(cell: Cell, images: int = 1) -> Budget:
    """For each of so many images. Without a budget everything is kept. Raises PruningError."""
    from methods.interface import Budget

    if isinstance(cell.tokens, Share):
        return Budget(fraction=float(cell.tokens))
    return Budget(fraction=1.0) if cell.tokens is None else Budget(cell.tokens * images)


def unmeasurable(error: Exception) -> dict[str, Any] | None:
    """What a record says of a cell that cannot be: its method cannot meet the budget on an image,
    or is not defined for the model. None for any other error.
    """
    from methods.interface import InfeasibleBudgetError, PruningError

    if isinstance(error, InfeasibleBudgetError):
        feasible: list[int | None] = [error.low, error.high]
    elif isinstance(error, PruningError) and "is not defined here" in str(error):
        feasible = [None, None]
    else:
        return None
    return {"status": "infeasible", "reason": str(error), "feasible": feasible}


def infeasible(feasible: Sequence[int | None] | None) -> str:
    """`infeasible (37–576)`: the whole budgets that the method can meet."""
    if not feasible or feasible[0] is None:
        return "infeasible"
    return f"infeasible ({feasible[0]}–{feasible[1]})"
