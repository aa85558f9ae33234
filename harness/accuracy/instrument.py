"""Accuracy of a cell on a task, by lmms-eval, with all that its record holds of every question.

lmms-eval asks and scores; the model, the tower's outputs and the tokenised questions are shared by
all cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from harness.accuracy.answers import Answer, Answerer, Prompt
from harness.accuracy.drawing import Draw, chosen, images_as_held
from harness.accuracy.fitting import LeftOut, images_shown_by, left_out, refusal
from harness.accuracy.lmms.evaluation import (
    ask,
    requests_of,
    scored_again,
    side_effects_undone,
)
from harness.accuracy.lmms.tasks import TaskLibrary
from harness.accuracy.rehearsal import check_videos, most_images, rehearse, shows_videos
from harness.accuracy.scores import running_score
from harness.accuracy.shards import QUESTIONS, Shard, dealt, merged
from harness.accuracy.videos import Videos
from harness.embedded import benchmark
from harness.errors import BadInput
from harness.models.load import LoadedModel
from harness.models.shapes import recorded_shape, sizes_of
from harness.models.videos import FRAMES, check_takes_videos
from harness.records.cell import Cell, budget_of
from harness.records.counted import distinct
from harness.records.piece import OnItem, Piece
from methods.interface import Sizes
from methods.sharing import TowerStore

MOST_PROMPTS = 4 * QUESTIONS
"""Kept from one shard to the next."""


class Accuracy:
    """Runs cells of one comparison; images go through the vision tower once, within `store_bytes`.

    `limit`: the first so many questions of each task, None for all; `draw`: instead, those that it
    draws; `sizes`: of a sample with so many images, for who has no model and only scores;
    `frames`: of each video. An instrument of `harness.run`: each cell on each task is a piece.
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
        self.model, self.limit, self.batch_size, self.draw = model, limit, batch_size, draw
        self.names, self.per_image = tuple(tasks), per_image
        self.tasks = TaskLibrary(tasks, model.protocol)
        self.store = TowerStore(store_bytes)
        self.prompts: dict[str, Prompt] = {}
        self.videos = Videos(frames)
        self.shard_questions = shard_questions
        self.sizes = sizes or partial(sizes_of, model.model)
        self.refusal = refusal(self.sizes, per_image)
        self._shard: tuple[Any, ...] = ()
        self._documents: dict[str, Sequence[int]] = {}
        self._left_out: dict[str, LeftOut] = {}
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

    def prepare(self, pieces: Sequence[Piece]) -> None:
        """Rehearse the tasks of these pieces. Raises BadInput."""
        cells: dict[str, list[Cell]] = {}
        for piece in pieces:
            cells.setdefault(piece.identity["task"], []).extend(piece.cells)
        for task, asked in cells.items():
            self.rehearse(task, asked)

    def body(
        self, piece: Piece, results: Mapping[Cell, Mapping[str, Any]], whole: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The cell's result beside its name."""
        (cell,) = piece.cells
        outline = {"cell": cell.text, "status": "ok", "reason": None}
        missing = self._left_out.get(piece.identity["task"])
        known = {"left_out": missing.body()} if missing else {}
        return {**outline, "method": cell.method.described(), **known, **results[cell]}

    def task_version(self, task: str) -> str:
        """Differs whenever questions, data or scoring do. Raises BadInput."""
        return self.tasks.version(task)

    def items(self, task: str) -> int:
        """How many questions of a task a cell answers."""
        return len(self.documents(task))

    def documents(self, task: str) -> Sequence[int]:
        """lmms-eval's numbers of the documents that a cell is asked about, in order.

        Raises BadInput for a task whose images cannot be read.
        """
        if task not in self._documents:
            loaded = self.tasks.load(task)
            self._documents[task] = chosen(task, loaded, self.limit, self.draw)
        missing = self._left_out.get(task)
        return missing.kept if missing else self._documents[task]

    def _questions(self, task: str, cells: Sequence[Cell]) -> dict[str, Any]:
        """What an identity says of a task's questions, of which some may be left out."""
        self._left_out.pop(task, None)
        version = {"task_version": self.task_version(task), **self.frames_of(task)}
        missing = self.unaskable(task, cells)
        if missing is None:
            return version
        self._left_out[task] = missing
        return {**version, **missing.identity()}

    def frames_of(self, task: str) -> dict[str, int]:
        """What an identity says of a task that shows videos."""
        if task in benchmark.TASKS:
            return {}
        with side_effects_undone():
            shown = shows_videos(task, self.tasks.load(task), self.documents(task))
        return {"frames": self.videos.frames} if shown else {}

    def unaskable(self, task: str, cells: Sequence[Cell]) -> LeftOut | None:
        """The questions that one of the cells cannot be asked. Raises BadInput as `rehearse`.

        Unknown before they are asked where an image's tokens depend on the image.
        """
        if task in benchmark.TASKS or self.sizes(1) is None:
            return None
        loaded, documents = self.tasks.load(task), self.documents(task)
        with side_effects_undone():
            images = images_shown_by(task, loaded, documents)
            return left_out(images, cells, self.refusal)

    def rehearse(self, task: str, cells: Sequence[Cell]) -> None:
        """Score invented answers first. Raises BadInput for a task that cannot be asked or scored
        here, or whose questions show too many images for every pruned cell.
        """
        if task not in benchmark.TASKS:
            loaded, documents = self.tasks.load(task), self.documents(task)
            with side_effects_undone():
                if shows_videos(task, loaded, documents):
                    if self.model.model is not None:  # else workers have it
                        check_takes_videos(self.model.model)
                    check_videos(task, loaded, documents, self.videos)
                self._check_some_fit(task, most_images(task, loaded, documents), cells)
                rehearse(task, loaded, documents)

    def _check_some_fit(self, task: str, images: int, cells: Sequence[Cell]) -> None:
        refused = [why for cell in cells if (why := self.refusal(cell, images))]
        if refused and len(refused) == sum(cell.budget is not None for cell in cells):
            raise BadInput(f"task {task!r} has questions with {images} images: {refused[0]}")

    def shards_of(self, task: str) -> list[Shard]:
        """The documents of a task, in the parts that are answered by themselves."""
        documents = self.documents(task)
        if len(documents) <= self.shard_questions:
            return [tuple(documents)]
        images = images_as_held(self.tasks.load(task))
        return dealt(documents, [images[i] for i in documents], self.shard_questions)

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
        model = self._model(cell, _teller(task, loaded, answers, on_item))
        ask(model, task, loaded, [self._requests[task][document] for document in documents])
        halved = {"halved_to": model.fits} if model.fits < self.batch_size else {}
        seconds = perf_counter() - started
        return {**self._answered(task, answers), **halved, "wall_seconds": seconds}

    def _make_room(self, shard: tuple[Any, ...]) -> None:
        """A new shard shows new images: what is kept of others goes before it fills the memory."""
        if shard != self._shard and self.store.stored_bytes > self.store.max_bytes / 2:
            self.store = _emptied(self.store)
        if shard != self._shard:
            self.videos.make_room()
        if shard != self._shard and len(self.prompts) > MOST_PROMPTS:
            self.prompts.clear()
        self._shard = shard

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

    def _answered(self, task: str, answers: Mapping[int, Answer]) -> dict[str, Any]:
        """What a record keeps of a cell's answers, in the order of the documents."""
        ledger, rows = distinct([answers[doc_id].ledger for doc_id in sorted(answers)])
        return {
            "parameters": next(iter(answers.values())).parameters,
            "ledger": ledger,
            "samples": [
                _sample(task, doc_id, answers[doc_id], row)
                for doc_id, row in zip(sorted(answers), rows, strict=True)
            ],
            "shape": recorded_shape(self.model.model),
        }

    def _model(self, cell: Cell, tell: Callable[..., None]) -> Any:
        with side_effects_undone():
            from harness.accuracy.lmms.model import AnsweringModel
        return AnsweringModel(
            self._answerer(cell),
            self.batch_size,
            tell,
            protocol=self.model.protocol,
            videos=self.videos,
        )

    def _answerer(self, cell: Cell) -> Answerer:
        return Answerer(
            self.model,
            cell.method.build(),
            budget_of(cell),
            cell.seed,
            self.store,
            self.prompts,
            self.per_image,
        )


def _emptied(store: TowerStore) -> TowerStore:
    """Another that holds nothing yet and records the same."""
    other = TowerStore(store.max_bytes, reads_tower=bool(store.reads))
    other.expect(store.reads)
    return other


def _teller(
    name: str, task: Any, answers: dict[int, Answer], on_item: OnItem | None
) -> Callable[[str, int, Answer], None]:
    """Collects answers, and scores those of embedded tasks at once, for a running mean.

    Other tasks may ask a paid judge, so they are scored once, by lmms-eval.
    """

    def tell(_: str, doc_id: int, answer: Answer) -> None:
        answers[doc_id] = answer
        if on_item is not None:
            own = name in benchmark.TASKS
            on_item(running_score(name, task, doc_id, answer.text) if own else None)

    return tell


def _image(task: str, doc_id: int, answer: Answer) -> str:
    """What makes questions dependent: their images, or the question itself where it has none."""
    return "+".join(digest[:16] for digest in answer.images) or f"{task}/{doc_id}"


def _sample(task: str, doc_id: int, answer: Answer, row: int) -> dict[str, Any]:
    return {
        "item": f"{task}/{doc_id}",
        "image": _image(task, doc_id, answer),
        "answer": answer.text,
        "target": None,
        "score": None,
        "ledger": row,
        "first_token": answer.first_token,
        "selections": answer.selections,
        **({"grids": answer.grids} if answer.grids else {}),
    }
