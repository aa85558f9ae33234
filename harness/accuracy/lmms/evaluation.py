"""lmms-eval's two halves run over a task, asking and scoring; they leave nothing behind.

It is imported by the functions that need it: it takes seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from harness.accuracy.aggregation import arguments, state_kept
from harness.accuracy.lmms.tasks import quiet
from harness.accuracy.scores import scored
from harness.errors import ScoringError, cause
from harness.records.samples import document_of

SEED = 1234
"""lmms-eval's own, of numpy, torch and the choice of examples."""


def scored_again(task: str, loaded: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record's answers with scores by the task as it is now; nothing is asked again.

    Raises ScoringError as `Accuracy.run` does.
    """
    with side_effects_undone():
        from harness.accuracy.lmms.model import RepeatingModel

    answered = {key: record[key] for key in ("parameters", "ledger", "samples", "shape")}
    answers = {document_of(sample): sample["answer"] for sample in record["samples"]}
    try:
        results = evaluate(RepeatingModel(answers), loaded, sorted(answers))
    except Exception as error:
        raise ScoringError(cause(error), answered) from error
    return {**with_scores(task, loaded, results, answered), "wall_seconds": 0.0}


def requests_of(task: Any, documents: Sequence[int]) -> dict[int, Any]:
    """lmms-eval's requests by the documents' numbers, as `evaluate` would make them."""
    with side_effects_undone(), _only(task, documents):
        task.set_fewshot_seed(seed=SEED)
        task.build_all_requests(limit=documents[-1] + 1)
    return {int(request.doc_id): request for request in task.instances}


def ask(model: Any, name: str, task: Any, requests: Sequence[Any]) -> None:
    """Have the model answer requests of the task; it tells the answers. Raises what asking does.

    Every shard begins with the random state that a whole run of lmms-eval begins with.
    """
    import numpy as np
    import torch

    with side_effects_undone():
        random.seed(0)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        model.task_dict[name] = task.dataset
        model.generate_until(requests)


def evaluate(model: Any, task: Any, documents: Sequence[int]) -> dict[str, Any]:
    """lmms-eval's results of these documents, in order. Raises what asking or scoring raises."""
    from tenacity import RetryError

    functions = [task.config.process_results, *task.aggregation().values()]
    with (
        side_effects_undone(),
        state_kept(functions),
        _only(task, documents),
        TemporaryDirectory() as folder,
    ):
        from lmms_eval.evaluator import simple_evaluate
        from lmms_eval.tasks import TaskManager

        try:
            return simple_evaluate(
                model=model,
                tasks=[task],
                task_manager=TaskManager(include_defaults=False),
                batch_size=model.batch_size,
                limit=documents[-1] + 1,
                bootstrap_iters=0,
                process_docs_parallel=1,
                cli_args=arguments(folder),
            )
        except RetryError as error:
            raise (error.last_attempt.exception() or error) from error


@contextmanager
def _only(task: Any, documents: Sequence[int]) -> Iterator[None]:
    """lmms-eval takes the first so many documents, and passes over those without a request."""
    construct, wanted = task.construct_requests, frozenset(documents)

    def requests(doc_id: int, **given: Any) -> Any:
        return construct(doc_id=doc_id, **given) if doc_id in wanted else []

    with patch.object(task, "construct_requests", requests):
        yield


def with_scores(
    task: str, loaded: Any, results: Mapping[str, Any], answered: Mapping[str, Any]
) -> dict[str, Any]:
    """The record's parts with each question's score, and the task's. Raises ScoringError."""
    images = {document_of(sample): sample["image"] for sample in answered["samples"]}
    try:
        with side_effects_undone():
            score = scored(task, loaded, results, images)
    except Exception as error:
        raise ScoringError(cause(error), answered) from error
    logged = score.samples
    samples = []
    for sample in answered["samples"]:
        about, number = logged[document_of(sample)]
        samples.append({**sample, "target": about["target"], "score": number})
    return {
        **answered,
        "samples": samples,
        "metric": score.metric,
        "metrics": score.metrics,
        "printed": score.printed,
    }


@contextmanager
def side_effects_undone() -> Iterator[None]:
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
