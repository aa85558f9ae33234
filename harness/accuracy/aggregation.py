"""A task's score as lmms-eval aggregates it, and again without each group of images.

A score that is no mean of questions (F1, sums over pairs, means of categories, CIDEr) has no
per-question parts; how much each group of images adds is told by leaving it out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from inspect import signature
from io import StringIO
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from harness.records.task_metrics import Metric

GROUPS, FEWER_GROUPS = 200, 20
SECONDS = 300.0
"""That leaving out the groups of one metric of one cell may take."""
_STATE = (dict, list, set, int, float, str, bool)

Items = Mapping[str, Mapping[int, Any]]
"""What the task's function gave of each metric for each document that it gave it for."""


def left_out(task: Any, metric: Metric, items: Items, images: Mapping[int, str]) -> dict[str, Any]:
    """`{"without": [values], "why": None}`, or why there are none.

    Documents that share an image (`images` tells each one's) or a question's number stay together;
    they are dealt, in order, into at most `GROUPS` groups of neighbours, and value g is the score
    without group g. `FEWER_GROUPS` where that takes over `SECONDS`, none where these do, too.
    """
    documents = sorted(set().union(*(items.get(part, {}) for part in metric.parts)))
    started = perf_counter()
    aggregated(task, metric, items)
    seconds = perf_counter() - started
    if seconds * FEWER_GROUPS > SECONDS:
        return {"without": None, "why": f"one aggregation takes {seconds:.0f} s"}
    most = GROUPS if seconds * GROUPS <= SECONDS else FEWER_GROUPS
    together = _together(metric, items, images, documents)
    groups = min(most, len(set(together.values())))
    if groups < 2:
        return {"without": None, "why": "all questions are about one image"}
    order = {first: i for i, first in enumerate(sorted(set(together.values())))}
    group = {d: order[first] * groups // len(order) for d, first in together.items()}
    values = []
    for g in range(groups):
        kept = {
            part: {d: item for d, item in items.get(part, {}).items() if group[d] != g}
            for part in metric.parts
        }
        try:
            values.append(aggregated(task, metric, kept))
        except Exception as error:  # the score stands; that it has no interval is shown
            why = f"without some images it cannot be computed ({type(error).__name__}: {error})"
            return {"without": None, "why": why}
    return {"without": values, "why": None}


def _together(
    metric: Metric, items: Items, images: Mapping[int, str], documents: Sequence[int]
) -> dict[int, int]:
    """Each document's first of those that it is tied to."""
    first: dict[object, int] = {}
    root: dict[int, int] = {}

    def top(document: int) -> int:
        while root[document] != document:
            document = root[document]
        return document

    for document in documents:
        root[document] = document
        given = [items[part][document] for part in metric.parts if document in items.get(part, {})]
        numbers = [
            ("question", item.get("question_id")) for item in given if isinstance(item, dict)
        ]
        for tie in [("image", images[document]), *(n for n in numbers if n[1] is not None)]:
            one, other = top(document), top(first.setdefault(tie, document))
            root[max(one, other)] = min(one, other)
    return {document: top(document) for document in documents}


def aggregated(task: Any, metric: Metric, items: Items) -> float:
    """The score over the documents in `items`. Raises whatever the task's function raises."""
    values = [
        _aggregate(task, part, list(items[part].values()))
        for part in metric.parts
        if items.get(part)
    ]
    if not values:
        raise ValueError(f"no question gives {metric.name}")
    return float(sum(values))


def _aggregate(task: Any, name: str, items: Sequence[Any]) -> float:
    function = task.aggregation()[name]
    extra = {"args": task.args} if "args" in signature(function).parameters else {}
    # several print what they find, once for every group that is left out
    with state_kept([function]), redirect_stdout(StringIO()):
        return float(function(copy.deepcopy(list(items)), **extra))


def arguments(folder: str) -> SimpleNamespace:
    """What aggregations and scoring read of lmms-eval's command line; they write into `folder`.

    As its command line does, documents are scored without decoding their images.
    """
    return SimpleNamespace(process_with_media=False, output_path=folder)


@contextmanager
def state_kept(functions: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Put the globals of the functions' modules back afterwards: some aggregations add to them, so
    that a second cell's score would hold the first one's.
    """
    modules = [function.__globals__ for function in functions if hasattr(function, "__globals__")]
    kept = [
        (module, {k: copy.deepcopy(v) for k, v in module.items() if _is_state(k, v)})
        for module in modules
    ]
    try:
        yield
    finally:
        for module, values in kept:
            _restore(module, values)


def _is_state(name: str, value: object) -> bool:
    return not name.startswith("__") and type(value) in _STATE


def _restore(module: dict[str, Any], values: Mapping[str, Any]) -> None:
    """In place, since other functions hold the same objects."""
    for name, value in values.items():
        held = module.get(name)
        if isinstance(held, dict | set) and type(held) is type(value):
            held.clear()
            held.update(value)
        elif isinstance(held, list) and isinstance(value, list):
            held[:] = value
        else:
            module[name] = value
