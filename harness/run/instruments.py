"""What measures, made for a request: accuracy asks, efficiency times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.records.cell import Cell
from harness.records.piece import Listener, OnItem, Piece
from harness.run.request import Per, Request

if TYPE_CHECKING:
    from harness.models.load import LoadedModel
    from methods.interface import Sizes

Results = Mapping[Cell, Mapping[str, Any]]
"""What was measured of each cell."""


class _Instrument(Protocol):
    """Each piece of its work becomes one record of this `kind`."""

    @property
    def kind(self) -> str: ...

    def pieces(self, cells: Sequence[Cell]) -> list[Piece]:
        """The work on these cells in order, with all that its records' identities hold of it."""

    def body(self, piece: Piece, results: Results, whole: Mapping[str, Any]) -> dict[str, Any]:
        """The record's own part; a result has a status unless it is "ok"."""


@runtime_checkable
class Asking(_Instrument, Protocol):
    """Has one cell's questions of one task answered, shard by shard, and scores them."""

    def prepare(self, pieces: Sequence[Piece]) -> None:
        """Before the first of them is answered. Raises BadInput for what could not be."""

    def shards_of(self, task: str) -> Sequence[tuple[int, ...]]:
        """The task's documents, in the parts that are answered by themselves."""

    def answer(
        self, cell: Cell, task: str, documents: Sequence[int], on_item: OnItem | None
    ) -> Mapping[str, Any]:
        """Of one part. Raises whatever fails the cell."""

    def run(
        self, cell: Cell, task: str, on_item: OnItem | None, earlier: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        """Its result, from its answers: of all parts as one, or as a record that was not scored.

        Raises BadInput, ScoringError, and whatever else fails the cell.
        """


@runtime_checkable
class Timing(_Instrument, Protocol):
    """Times all cells in rounds."""

    def measure(
        self, cells: Sequence[Cell], listener: Listener
    ) -> tuple[Results, Mapping[str, Any]]:
        """Of those `cells` of a piece that can be; and what belongs to the piece as a whole.

        Raises as `timed` does.
        """

    def timed(
        self, cells: Sequence[Cell], on_step: Callable[[str, int, int], None]
    ) -> dict[str, Any]:
        """Both in one, by the model that is here. Raises BadInput, MechanismError, and whatever
        else fails all the cells.
        """


Instrument = Asking | Timing


class Elsewhere(Protocol):
    """Where the model is, if not here."""

    def sizes(self, images: int) -> Sizes | None:
        """Of a sample with so many images; None where they depend on the images."""

    def timed(self, number: int, cells: Sequence[Cell], on_step: Any) -> dict[str, Any]:
        """As `Efficiency.timed`, of the timing of that number, from 0."""


def instruments_of(
    request: Request, loaded: LoadedModel, images: int, elsewhere: Elsewhere | None = None
) -> list[Instrument]:
    """Accuracy, then one for each batch size that is timed with so many images a prompt.

    Raises BadInput for a batch that the device has no room for.
    """
    found: list[Instrument] = []
    if request.accuracy:
        from harness.accuracy.drawing import Draw
        from harness.accuracy.instrument import Accuracy

        count = request.samples_per_task
        draw = None if count is None else Draw(count, request.sample)
        batch = request.batch_sizes[0]
        accuracy = Accuracy(
            loaded,
            request.tasks,
            request.limit,
            batch,
            draw=draw,
            shard_questions=request.shard_questions,
            sizes=None if elsewhere is None else elsewhere.sizes,
            per_image=request.budget_per == Per.IMAGE,
            frames=request.frames,
        )
        for method in request.methods:  # so that the tower runs once for all of them
            accuracy.store.expect(method.build().tower_reads)
        found.append(accuracy)
    if request.efficiency:
        found += _timing(request, loaded, images, elsewhere)
    return found


def _timing(
    request: Request, loaded: LoadedModel, images: int, elsewhere: Elsewhere | None
) -> Sequence[Timing]:
    from harness.efficiency.instrument import Efficiency
    from harness.efficiency.saturation import check_bound
    from harness.efficiency.workload import Load, check_room

    loads = [
        Load(batch, images, request.prompt_tokens, request.new_tokens, request.seed, frames)
        for frames in request.timed_frames or (None,)
        for batch in request.batch_sizes
    ]
    for load in loads if elsewhere is None else ():
        check_room(loaded, load)
    if request.saturate_gib is not None and elsewhere is None:
        check_bound(loaded, request.saturate_gib)
    return [
        Efficiency(
            loaded,
            load,
            request.repeats,
            request.most_minutes,
            request.memory_gib if number == 0 else None,
            None if elsewhere is None else partial(elsewhere.timed, number),
            request.saturate_gib if number == 0 else None,
        )
        for number, load in enumerate(loads)
    ]
