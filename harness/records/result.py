"""What came of a cell, and where a record comes from: the parts that both kinds share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.records.cell import Cell, infeasible
from harness.records.gpu import GpuState
from harness.records.ledger import Ledger


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from; None is what it does not say. `workers`: which parts each of them
    answered; `batch_halved_to`: what was left of the batch size, where the memory held no more.
    """

    commit: str | None = None
    dirty: bool | None = None
    created: str = ""
    rescored: str | None = None
    command: str | None = None
    device_name: str | None = None
    cpu: str | None = None
    threads: int | None = None
    gpu_before: GpuState | None = None
    workers: Any = None
    batch_halved_to: Any = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Provenance:
        known = {f.name: body[f.name] for f in fields(cls) if f.name in body}
        return cls(**{**known, "gpu_before": GpuState.of(body.get("gpu_before"))})


@dataclass(frozen=True)
class Described:
    """How tables call a method, and where it was published."""

    name: str
    label: str
    venue: str = ""
    link: str = ""


@dataclass(frozen=True, eq=False)
class Result:
    """What came of one cell: of its answers to a task, or of its timing.

    `status` is "ok", "failed", "infeasible", or "out_of_memory" of a timing; `broken` tells a
    broken promise, which has counts, from other failures. `feasible`: the budgets that can be met.
    """

    cell: Cell
    method: Described
    status: str
    reason: str | None
    broken: bool
    feasible: Sequence[int | None] | None
    ledger: Ledger
    parameters: Mapping[str, Any]

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"

    @property
    def unmet(self) -> str:
        """Why it is infeasible: `infeasible (37–576)`, or why no budget is."""
        none = not self.feasible or self.feasible[0] is None
        return self.reason if none and self.reason else infeasible(self.feasible)

    @property
    def label(self) -> str:
        """`FastV`, `SparseVLM variant=plus`."""
        settings = (f"{key}={value}" for key, value in self.cell.method.settings)
        return " ".join([self.method.label, *settings])


def outcome(
    body: Mapping[str, Any], cell: Cell, ledger: Ledger, broken: str | None
) -> dict[str, Any]:
    """The fields of a `Result`, of its JSON; `broken`: why the promise is."""
    described = body["method"]
    known = {f.name: described[f.name] for f in fields(Described) if f.name in described}
    return {
        "cell": cell,
        "method": Described(**{"name": "", **known}),
        "status": "failed" if broken else body["status"],
        "reason": broken or body["reason"],
        "broken": broken is not None,
        "feasible": body.get("feasible"),
        "ledger": ledger,
        "parameters": body["parameters"] if ledger else {},
    }
