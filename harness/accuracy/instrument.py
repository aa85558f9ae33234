"""Accuracy of a cell on a task, by lmms-eval, with all that its record holds of every question.

lmms-eval asks and scores; the model, the tower's outputs and the tokenised questions are shared by
all cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from harness.accuracy.answers import Answerer
from harness.accuracy.drawing import Draw
from harness.accuracy.generated import Answer
from harness.accuracy.kept import kept
from harness.accuracy.lmms.evaluation import (
    ask,
    requests_of,
    scored_again,
    side_effects_undone,
)
from harness.accuracy.prompts import Prompt
from harness.accuracy.questions import Questions
from harness.accuracy.scores import teller
from harness.accuracy.shards import QUESTIONS, merged
from harness.models.load import LoadedModel
from harness.models.shapes import recorded_shape
from harness.models.videos import FRAMES
from harness.records.cell import Cell, budget_of
from harness.records.piece import OnItem, Piece
from methods.encoded_batches import EncodedBatches
from methods.interface import Sizes
from methods.sharing import TowerStore

MOST_PROMPTS = 4 * QUESTIONS
"""Kept from one shard to the next."""


class Accuracy(Questions):
    """Runs cells of one comparison; images go through the vision tower once, within `store_bytes`.

    The others are as `Questions` has them. An instrument of `harness.run`: each cell on each task
    is a piece.
    """

    kind = "accuracy"

    def __init__(
        self,
        model: LoadedModel,
        tasks: Sequence[str],
        limit: int | None = None,
        batch_size: int = 1,
        store_bytes: int = 4 * 2**30,
        draw: Draw | None = None,
        per_image: bool = False,
        shard_questions: int = QUESTIONS,
        sizes: Callable[[int], Sizes | None] | None = None,
        frames: int = FRAMES,
    ) -> None:
        super().__init__(model, tasks, limit, draw, per_image, shard_questions, sizes, frames)
        self.batch_size = batch_size
        self.store, self.batches = TowerStore(store_bytes), EncodedBatches(store_bytes)
        self.prompts: dict[str, Prompt] = {}
        self._shard: tuple[Any, ...] = ()
        self._requests: dict[str, dict[int, Any]] = {}

    def pieces(self, cells: Sequence[Cell]) -> list[Piece]:
        """Cell by cell all tasks, without the questions that one of the cells cannot be asked.

        Raises BadInput.
        """
        versions = {task: self._questions(task, cells) for task in self.names}
        drawn = self.draw.identity() if self.draw else {}
        per = {"budget_per": "image"} if self.per_image else {}
        asked = {"limit": self.limit, "batch_size": self.batch_size, **drawn, **per}
        return [
            Piece(
                f"{cell.text} {task}",
                (cell,),
                {**cell.identity(), "task": task, **version, **asked},
            )
            for cell in cells
            for task, version in versions.items()
        ]

    def body(
        self, piece: Piece, results: Mapping[Cell, Mapping[str, Any]], whole: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The cell's result beside its name."""
        (cell,) = piece.cells
        outline = {"cell": cell.text, "status": "ok", "reason": None}
        missing = self._left_out.get(piece.identity["task"])
        known = {"left_out": missing.body()} if missing else {}
        return {**outline, "method": cell.method.described(), **known, **results[cell]}

    def answer(
        self, cell: Cell, task: str, documents: Sequence[int], on_item: OnItem | None = None
    ) -> dict[str, Any]:
        """What a record keeps of a cell's answers to these documents, which are not scored.

        "halved_to": the size of the batches that were left, where the memory held no larger ones.
        Raises PruningError, and SampleError for whatever goes wrong in a question.
        """
        self._make_room((task, *documents))
        loaded, started = self.tasks.load(task), perf_counter()
        if task not in self._requests:
            self._requests[task] = requests_of(loaded, self.documents(task))
        answers: dict[int, Answer] = {}
        model = self._model(cell, teller(task, loaded, answers, on_item))
        ask(model, task, loaded, [self._requests[task][document] for document in documents])
        halved = {"halved_to": model.fits} if model.fits < self.batch_size else {}
        seconds = perf_counter() - started
        shape = recorded_shape(self.model.model)
        return {**kept(task, answers), "shape": shape, **halved, "wall_seconds": seconds}

    def _make_room(self, shard: tuple[Any, ...]) -> None:
        """A new shard shows new images: what is kept of others goes before it fills the memory."""
        if shard == self._shard:
            return
        self._shard = shard
        self.videos.make_room()
        for own in (self.store, self.batches):
            if own.stored_bytes > own.max_bytes / 2:
                own.clear()
        if len(self.prompts) > MOST_PROMPTS:
            self.prompts.clear()

    def run(
        self,
        cell: Cell,
        task: str,
        on_item: OnItem | None = None,
        earlier: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The measured parts of the cell's record; from the answers of an `earlier` one, if given.

        Raises as `answer` does, and ScoringError, which holds the answers.
        """
        started, loaded = perf_counter(), self.tasks.load(task)
        if earlier is None:
            shards = self.shards_of(task)
            earlier = merged([self.answer(cell, task, shard, on_item) for shard in shards])
            started = perf_counter()
        result = scored_again(task, loaded, earlier)
        seconds = earlier.get("wall_seconds", 0.0) + perf_counter() - started
        return {**result, "wall_seconds": seconds}

    def _model(self, cell: Cell, tell: Callable[..., None]) -> Any:
        with side_effects_undone():
            from harness.accuracy.lmms.model import AnsweringModel
        answerer = Answerer(
            self.model,
            cell.method.build(),
            budget_of(cell),
            cell.seed,
            self.store,
            self.batches,
            self.prompts,
            self.per_image,
        )
        return AnsweringModel(
            answerer, self.batch_size, tell, protocol=self.model.protocol, videos=self.videos
        )
