"""Which questions of which tasks all cells of a comparison are asked, and that they can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness.accuracy.drawing import Draw, chosen, images_as_held
from harness.accuracy.fitting import (
    LeftOut,
    check_some_fit,
    images_shown_by,
    left_out,
    refusal,
)
from harness.accuracy.lmms.evaluation import side_effects_undone
from harness.accuracy.lmms.tasks import TaskLibrary
from harness.accuracy.rehearsal import check_videos, most_images, rehearse, shows_videos
from harness.accuracy.shards import QUESTIONS, Shard, dealt
from harness.accuracy.videos import Videos
from harness.embedded import benchmark
from harness.models.load import LoadedModel
from harness.models.shapes import sizes_of
from harness.models.videos import FRAMES, check_takes_videos
from harness.records.cell import Cell
from harness.records.piece import Piece
from methods.interface import Sizes


class Questions:
    """`limit`: the first so many questions of each task, None for all; `draw`: instead, those that
    it draws; `sizes`: of a sample with so many images, for who has no model and only scores;
    `frames`: of each video.
    """

    def __init__(
        self,
        model: LoadedModel,
        tasks: Sequence[str],
        limit: int | None = None,
        draw: Draw | None = None,
        per_image: bool = False,
        shard_questions: int = QUESTIONS,
        sizes: Callable[[int], Sizes | None] | None = None,
        frames: int = FRAMES,
    ) -> None:
        self.model, self.limit, self.draw = model, limit, draw
        self.names, self.per_image = tuple(tasks), per_image
        self.tasks = TaskLibrary(tasks, model.protocol)
        self.videos = Videos(frames)
        self.shard_questions = shard_questions
        self.sizes = sizes or partial(sizes_of, model.model)
        self.refusal = refusal(self.sizes, per_image)
        self._documents: dict[str, Sequence[int]] = {}
        self._left_out: dict[str, LeftOut] = {}

    def prepare(self, pieces: Sequence[Piece]) -> None:
        """Rehearse the tasks of these pieces. Raises BadInput."""
        cells: dict[str, list[Cell]] = {}
        for piece in pieces:
            cells.setdefault(piece.identity["task"], []).extend(piece.cells)
        for task, asked in cells.items():
            self.rehearse(task, asked)

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
                most = most_images(task, loaded, documents)
                check_some_fit(task, most, cells, self.refusal)
                rehearse(task, loaded, documents)

    def shards_of(self, task: str) -> list[Shard]:
        """The documents of a task, in the parts that are answered by themselves."""
        documents = self.documents(task)
        if len(documents) <= self.shard_questions:
            return [tuple(documents)]
        images = images_as_held(self.tasks.load(task))
        return dealt(documents, [images[i] for i in documents], self.shard_questions)
