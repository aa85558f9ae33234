"""Accuracy of a cell on a task, by lmms-eval, with all that its record holds of every question.

lmms-eval asks and scores; the model, the tower's outputs and the tokenised questions are shared by
all cells. lmms-eval is imported by the functions that need it: it takes seconds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

from harness.accuracy.aggregation import arguments, state_kept
from harness.accuracy.answers import Answer, Answerer, Prompt
from harness.accuracy.lmms.tasks import TaskLibrary, quiet
from harness.accuracy.rehearsal import most_images, rehearse
from harness.accuracy.scores import running_score, scored
from harness.embedded import benchmark
from harness.errors import BadInput, ScoringError, cause
from harness.models.load import LoadedModel
from harness.records.cell import Cell, budget_of
from harness.records.counted import distinct
from methods import InfeasibleBudgetError
from methods.adapters import adapter_for
from methods.sharing import TowerStore

OnItem = Callable[[float | None], None]
"""Called after each question with its score, None where the task is scored at the end only."""


class Accuracy:
    """Runs cells of one comparison; images go through the vision tower once, within `store_bytes`.

    `limit`: the first so many questions of each task, None for all.
    """

    def __init__(
        self,
        model: LoadedModel,
        tasks: Sequence[str],
        limit: int | None = None,
        batch_size: int = 1,
        store_bytes: int = 4 * 2**30,
    ) -> None:
        self.model, self.limit, self.batch_size = model, limit, batch_size
        self.tasks = TaskLibrary(tasks, model.protocol)
        self.store = TowerStore(store_bytes)
        self.prompts: dict[str, Prompt] = {}

    def task_version(self, task: str) -> str:
        """Differs whenever questions, data or scoring do. Raises BadInput."""
        return self.tasks.version(task)

    def items(self, task: str) -> int:
        """Questions of a task that a cell answers."""
        return min(self.limit or sys.maxsize, len(self.tasks.load(task).eval_docs))

    def rehearse(self, task: str, cells: Sequence[Cell]) -> None:
        """Score invented answers first. Raises BadInput for a task that cannot be asked or scored
        here, or whose questions show too many images for every pruned cell.
        """
        if task not in benchmark.TASKS:
            loaded, documents = self.tasks.load(task), range(self.items(task))
            with _side_effects_undone():
                self._check_some_fit(task, most_images(task, loaded, documents), cells)
                rehearse(task, loaded, documents)

    def _check_some_fit(self, task: str, images: int, cells: Sequence[Cell]) -> None:
        adapter = adapter_for(self.model.model)
        sizes = adapter.sizes(max(images, 1) * adapter.shape().image_tokens)
        refused = []
        for cell in cells:
            try:
                cell.method.build().plan(budget_of(cell), sizes)
            except InfeasibleBudgetError as error:
                refused.append(str(error))
        if refused and len(refused) == sum(cell.budget is not None for cell in cells):
            raise BadInput(f"task {task!r} has questions with {images} images: {refused[0]}")

    def run(
        self,
        cell: Cell,
        task: str,
        on_item: OnItem | None = None,
        earlier: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The measured parts of the cell's record; from the answers of an `earlier` one, if given.

        Raises PruningError, SampleError for whatever goes wrong in a question, and ScoringError,
        which holds the answers.
        """
        loaded = self.tasks.load(task)
        if earlier is not None:
            return scored_again(task, loaded, earlier, self.limit)
        started = perf_counter()
        answers: dict[int, Answer] = {}
        model = self._model(cell, _teller(task, loaded, answers, on_item))
        try:
            results = _evaluate(model, loaded, self.limit)
        except Exception as error:
            if len(answers) < self.items(task):
                raise
            raise ScoringError(cause(error), self._answered(task, answers)) from error
        answered = self._answered(task, answers)
        return {
            **_with_scores(task, loaded, results, answered),
            "wall_seconds": perf_counter() - started,
        }

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
            "shape": asdict(adapter_for(self.model.model).shape()),
        }

    def _model(self, cell: Cell, tell: Callable[..., None]) -> Any:
        with _side_effects_undone():
            from harness.accuracy.lmms.model import AnsweringModel
        return AnsweringModel(
            self._answerer(cell), self.batch_size, tell, protocol=self.model.protocol
        )

    def _answerer(self, cell: Cell) -> Answerer:
        return Answerer(
            self.model,
            cell.method.build(),
            budget_of(cell),
            cell.seed,
            self.store,
            self.prompts,
        )


def scored_again(
    task: str, loaded: Any, record: Mapping[str, Any], limit: int | None
) -> dict[str, Any]:
    """A record's answers with scores by the task as it is now; nothing is asked again.

    Raises ScoringError as `Accuracy.run` does.
    """
    with _side_effects_undone():
        from harness.accuracy.lmms.model import RepeatingModel

    answered = {key: record[key] for key in ("parameters", "ledger", "samples", "shape")}
    answers = {_document(sample): sample["answer"] for sample in record["samples"]}
    try:
        results = _evaluate(RepeatingModel(answers), loaded, limit)
    except Exception as error:
        raise ScoringError(cause(error), answered) from error
    return {**_with_scores(task, loaded, results, answered), "wall_seconds": 0.0}


def _evaluate(model: Any, task: Any, limit: int | None) -> dict[str, Any]:
    """lmms-eval's results. Raises what asking or scoring raises."""
    from tenacity import RetryError

    functions = [task.config.process_results, *task.aggregation().values()]
    with _side_effects_undone(), state_kept(functions), TemporaryDirectory() as folder:
        from lmms_eval.evaluator import simple_evaluate
        from lmms_eval.tasks import TaskManager

        try:
            return simple_evaluate(
                model=model,
                tasks=[task],
                task_manager=TaskManager(include_defaults=False),
                batch_size=model.batch_size,
                limit=limit,
                bootstrap_iters=0,
                process_docs_parallel=1,
                cli_args=arguments(folder),
            )
        except RetryError as error:
            raise (error.last_attempt.exception() or error) from error


def _with_scores(
    task: str, loaded: Any, results: Mapping[str, Any], answered: Mapping[str, Any]
) -> dict[str, Any]:
    """The record's parts with each question's score, and the task's. Raises ScoringError."""
    images = {_document(sample): sample["image"] for sample in answered["samples"]}
    try:
        with _side_effects_undone():
            score = scored(task, loaded, results, images)
    except Exception as error:
        raise ScoringError(cause(error), answered) from error
    logged = score.samples
    samples = []
    for sample in answered["samples"]:
        about, number = logged[_document(sample)]
        samples.append({**sample, "target": about["target"], "score": number})
    return {
        **answered,
        "samples": samples,
        "metric": score.metric,
        "metrics": score.metrics,
        "printed": score.printed,
    }


def _document(sample: Mapping[str, Any]) -> int:
    """lmms-eval's number of the document that a record's sample is about."""
    return int(str(sample["item"]).rpartition("/")[2])


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
    }


@contextmanager
def _side_effects_undone() -> Iterator[None]:
    """No prints, no bars of lmms-eval's; the global random states are as before afterwards."""
    import numpy as np
    import torch
    from tqdm import tqdm

    def silent(*args: Any, **kwargs: Any) -> Any:
        return tqdm(*args, **{**kwargs, "disable": True})

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        with (
            quiet(),
            patch("lmms_eval.evaluator.tqdm", silent),
            patch("lmms_eval.api.task.tqdm", silent),
        ):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
