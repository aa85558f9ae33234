"""Records: what was measured, typed and frozen; made once of the JSON that holds it.

A record is judged when it is made: a cell whose counts are not what was promised has failed, with
the promise as its reason. Whoever reads records begins here, and knows no key of the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from harness.records.bodies import AccuracyBody
from harness.records.cell import Cell
from harness.records.cost import Shape
from harness.records.gpu import GpuState
from harness.records.identity import Identity
from harness.records.ledger import broken_promise, ledger_of
from harness.records.provenance import now
from harness.records.result import Provenance, Result, outcome
from harness.records.samples import Samples
from harness.records.timed import EqualContext, Rates, TimedCell
from harness.records.timed_bodies import EfficiencyBody

Body = AccuracyBody | EfficiencyBody


@dataclass(frozen=True)
class TaskScore:
    """A task's score by one of its metrics, as lmms-eval prints it.

    `per_question`: times a question's score, None where it is no mean of these; `without`: the
    score without each group of images, `why` it has none.
    """

    value: float
    per_question: float | None
    why: str | None
    without: Sequence[float] | None


@dataclass(frozen=True, eq=False)
class AccuracyRecord(Result):
    """A cell's answers to a task; where there are none, without samples, ledger and shape."""

    kind: ClassVar[Literal["accuracy"]] = "accuracy"
    body: AccuracyBody = field(repr=False)
    identity: Identity
    provenance: Provenance
    samples: Samples
    shape: Shape

    @classmethod
    def of(cls, body: AccuracyBody) -> AccuracyRecord:
        answered = "samples" in body
        ledger = ledger_of(body["ledger"]) if answered else ()
        identity, cell = Identity.of(body["identity"]), Cell.parse(body["cell"])
        samples = Samples(body["samples"] if answered else ())
        broken = None
        if body["status"] == "ok":
            whole = set(range(len(ledger))) - samples.cut
            published = identity.settings.get("schedule") == "published"
            broken = broken_promise(ledger, cell.tokens, published, whole)
        return cls(
            **outcome(body, cell, ledger, broken),
            body=body,
            identity=identity,
            provenance=Provenance.of(body["provenance"]),
            samples=samples,
            shape=body["shape"] if answered else {},
        )

    @property
    def image_tokens(self) -> int:
        """Of one image, unpruned; 0 where they depend on the image."""
        return self.shape.get("image_tokens", 0)

    @property
    def task(self) -> str:
        return self.identity.task

    @property
    def left_out(self) -> str:
        """`mmmu_val: 3 of 200 questions left out, since …`; nothing where all were asked."""
        known = self.body.get("left_out")
        if known is None:
            return ""
        count = f"{known['questions']} of {known['of']} questions left out of all cells"
        return f"{self.task}: {count}, since {known['why']}"

    @property
    def is_unscored(self) -> bool:
        """Whether all its questions were answered, though they could not be scored."""
        return self.body["status"] == "failed" and "samples" in self.body

    def rescored(self, task_version: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Its JSON as scored now by this version of its task."""
        identity = {**self.identity.body, "task_version": task_version}
        provenance = {**self.body["provenance"], "rescored": now()}
        return {**self.body, **changes, "identity": identity, "provenance": provenance}

    @property
    def metric(self) -> str:
        """lmms-eval's name of what the questions' scores are; records once did not say it."""
        return self.body.get("metric", "score")

    @cached_property
    def metrics(self) -> dict[str, TaskScore] | None:
        """The task's scores by lmms-eval's names; None where a record has but the questions'."""
        held = self.body.get("metrics")
        if held is None:
            return None
        return {
            name: TaskScore(found["value"], found["per_question"], found["why"], found["without"])
            for name, found in held.items()
        }


@dataclass(frozen=True, eq=False)
class EfficiencyRecord:
    """A run of interleaved rounds over all cells; what was not measured is None or empty."""

    kind: ClassVar[Literal["efficiency"]] = "efficiency"
    body: EfficiencyBody = field(repr=False)
    identity: Identity
    provenance: Provenance
    cells: tuple[TimedCell, ...]
    shape: Shape
    rounds: int
    rates: Rates | None
    equal_context: tuple[EqualContext, ...]
    stock_seconds: Sequence[float]
    weight_bytes: float
    gpu_warm: GpuState | None
    gpu_after: GpuState | None

    @classmethod
    def of(cls, body: EfficiencyBody) -> EfficiencyRecord:
        rates, identity = body.get("rates"), Identity.of(body["identity"])
        return cls(
            body,
            identity,
            Provenance.of(body["provenance"]),
            _timed_cells(body, identity),
            body.get("shape", {}),
            len(body["order"]),
            None if rates is None else Rates(rates["flops_per_second"], rates["bytes_per_second"]),
            tuple(map(EqualContext.of, body.get("equal_context", ()))),
            body.get("stock_seconds", ()),
            body.get("weight_bytes", 0),
            GpuState.of(body.get("gpu_warm")),
            GpuState.of(body.get("gpu_after")),
        )

    @property
    def image_tokens(self) -> int:
        """Of one of the timed images, unpruned; 0 where that is not known."""
        counted = round(self.unpruned.ledger[0].mean_entering) if self.unpruned else 0
        return self.shape.get("image_tokens", counted // max(self.identity.images, 1))

    @cached_property
    def unpruned(self) -> TimedCell | None:
        """What all others are compared with, where it was timed and kept its promise."""
        return next((c for c in self.cells if c.cell.is_unpruned and c.is_ok), None)


def _timed_cells(body: EfficiencyBody, identity: Identity) -> tuple[TimedCell, ...]:
    """Old runs do not tell the identities of their cells."""
    cells = body["cells"]
    upper = next((c for c in cells if c["budget"] is None and c["status"] == "ok"), None)
    total = upper["ledger"][0]["entering"][0] if upper and upper["ledger"] else None
    identities: Sequence[Mapping[str, Any]] = identity.cell_identities or [{}] * len(cells)
    versions = [str(own.get("method_file", "")) for own in identities]
    return tuple(TimedCell.of(c, v, total) for c, v in zip(cells, versions, strict=True))


Record = AccuracyRecord | EfficiencyRecord


def record_of(body: Mapping[str, Any]) -> Record:
    """Of the JSON of a record, whole or an outline, that has the form of one."""
    made: Record = _MADE[body["kind"]](body)
    return made


_MADE: dict[str, Any] = {kind.kind: kind.of for kind in (AccuracyRecord, EfficiencyRecord)}
