"""A task's scoring, tried on invented answers before the model answers anything.

What would fail after hours of answering fails within seconds: a judge without a key, a missing
Java, data of another form, a video where only images can be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from harness.accuracy.aggregation import aggregated, arguments, state_kept
from harness.accuracy.scores import metric_names
from harness.errors import BadInput
from harness.records.task_metrics import metrics_of

INVENTED = ("yes", "A", "a red circle")
WHOLE = 64
"""A limit of so many questions is rehearsed with all of them, of more with the first few."""
FEW = 4
SECONDS = 20.0


def rehearse(name: str, task: Any, documents: Sequence[int]) -> None:
    """Score invented answers to `documents`. Raises BadInput with what stands in the way."""
    chosen = documents if len(documents) <= WHOLE else documents[:FEW]
    failure: list[BaseException] = []

    def run() -> None:
        try:
            _score(name, task, chosen)
        except BaseException as error:  # handed to the thread that waits
            failure.append(error)

    # a judge that does not answer is asked again for minutes; nobody waits for that
    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        raise BadInput(
            f"task {name!r} took over {SECONDS:.0f} s to score {len(chosen)} invented answers; "
            f"a judge that is asked for every answer needs its key{_instead(name)}"
        )
    if failure:
        error = failure[0]
        raise BadInput(
            f"task {name!r} cannot be scored here: {type(error).__name__}: {error}{_instead(name)}"
        ) from error


def _score(name: str, task: Any, documents: Sequence[int]) -> None:
    items: dict[str, dict[int, Any]] = {}
    functions = [task.config.process_results, *task.aggregation().values()]
    with state_kept(functions), TemporaryDirectory() as folder:
        task.args = arguments(folder)
        for i, document in enumerate(documents):
            given = task.process_results(
                task.eval_docs_no_media[document], [INVENTED[i % len(INVENTED)]]
            )
            for metric, item in given.items():
                items.setdefault(metric, {})[document] = item
        for metric in metrics_of(name, metric_names(task)):
            if any(part in items for part in metric.parts):
                aggregated(task, metric, items)


def _instead(name: str) -> str:
    return "; mmbench_en_dev_static needs none" if name == "mmbench_en_dev" else ""
