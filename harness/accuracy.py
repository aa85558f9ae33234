"""Accuracy of a cell on a task, by lmms-eval, with all that its record holds of every question.

lmms-eval asks and scores; the model, the tower's outputs and the tokenised questions are shared by
all cells. lmms-eval is imported by the functions that need it: it takes seconds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from time import perf_counter
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from harness.answers import Answer, Answerer, Prompt, SampleError
from harness.budgets import budget_of
from harness.cells import Cell
from harness.counts import distinct
from harness.embedded import benchmark
from harness.lmms_tasks import TaskLibrary, quiet
from harness.models import LoadedModel
from harness.scoring import running_score, scored
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

    def run(self, cell: Cell, task: str, on_item: OnItem | None = None) -> dict[str, Any]:
        """The measured parts of the cell's record.

        Raises PruningError, SampleError for whatever goes wrong in a question, and ValueError for
        a task whose scores cannot be compared item by item.
        """
        loaded = self.tasks.load(task)
        started = perf_counter()
        answers: dict[int, Answer] = {}
        tell = _teller(task, loaded, answers, on_item)
        results = self._evaluate(self._answerer(cell), loaded, tell)
        metric, logged = scored(task, loaded, results)
        ledger, places = distinct([answers[doc_id].ledger for doc_id in logged])
        return {
            "parameters": next(iter(answers.values())).parameters,
            "ledger": ledger,
            "samples": [
                _sample(task, answers[doc_id], sample, score, row)
                for (doc_id, (sample, score)), row in zip(logged.items(), places, strict=True)
            ],
            "shape": asdict(adapter_for(self.model.model).shape()),
            "metric": metric,
            "wall_seconds": perf_counter() - started,
        }

    def _answerer(self, cell: Cell) -> Answerer:
        return Answerer(
            self.model,
            cell.method.build(),
            budget_of(cell),
            cell.seed,
            self.store,
            self.prompts,
        )

    def _evaluate(self, answerer: Answerer, task: Any, tell: Callable[..., None]) -> dict[str, Any]:
        from tenacity import RetryError

        with _side_effects_undone():
            from lmms_eval.evaluator import simple_evaluate
            from lmms_eval.tasks import TaskManager

            from harness.lmms_model import AnsweringModel

            try:
                return simple_evaluate(
                    model=AnsweringModel(
                        answerer, self.batch_size, tell, protocol=self.model.protocol
                    ),
                    tasks=[task],
                    task_manager=TaskManager(include_defaults=False),
                    batch_size=self.batch_size,
                    limit=self.limit,
                    bootstrap_iters=0,
                    process_docs_parallel=1,
                    # as its command line does: documents are scored without decoding their images
                    cli_args=SimpleNamespace(process_with_media=False),
                )
            except RetryError as error:
                cause = error.last_attempt.exception()
                raise SampleError(f"scoring failed: {type(cause).__name__}: {cause}") from cause


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


def _sample(task: str, answer: Answer, sample: dict, score: float, row: int) -> dict[str, Any]:
    item = f"{task}/{sample['doc_id']}"
    return {
        "item": item,
        "image": "+".join(digest[:16] for digest in answer.images) or item,
        "answer": answer.text,
        "target": sample["target"],
        "score": score,
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
