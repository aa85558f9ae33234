"""A task's questions and scoring, tried on invented answers before the model answers anything.

What would fail after hours of answering fails within seconds: a judge without a key, a missing
Java, data of another form, a video that cannot be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from harness.accuracy.aggregation import aggregated, arguments, state_kept
from harness.accuracy.scores import metric_names
from harness.accuracy.videos import Videos
from harness.errors import BadInput, cause
from harness.records.task_metrics import metrics_of

if TYPE_CHECKING:
    from harness.accuracy.lmms.media import Shown

INVENTED = ("yes", "A", "a red circle")
WHOLE = 64
"""A limit of so many questions is rehearsed with all of them, of more with the first few."""
FEW = 4
SECONDS = 20.0


def most_images(name: str, task: Any, documents: Sequence[int]) -> int:
    """That one of the first few questions shows; a video counts as one. Raises BadInput for what
    cannot be asked.
    """
    return max(shown.number for shown in shown_of(name, task, documents[:FEW]))


def shows_videos(name: str, task: Any, documents: Sequence[int]) -> bool:
    """Whether one of the first few questions does. Raises BadInput as `most_images`."""
    return any(shown.videos for shown in shown_of(name, task, documents[:FEW]))


def check_videos(name: str, task: Any, documents: Sequence[int], videos: Videos) -> None:
    """Raises BadInput for a video of any question that is not there, and for one of the first few
    questions that cannot be decoded.
    """
    for path in dict.fromkeys(p for s in shown_of(name, task, documents) for p in s.videos):
        if not Path(path).is_file():
            raise BadInput(f"task {name!r} cannot be asked here: there is no video {path}")
    for shown in shown_of(name, task, documents[:FEW]):
        for path in shown.videos:
            videos.read(path)


def shown_of(name: str, task: Any, documents: Iterable[int]) -> Iterator[Shown]:
    """By the question about each document. Raises BadInput for what cannot be asked."""
    from harness.accuracy.lmms.media import shown_by

    try:
        for document in documents:
            yield shown_by(name, task, task.eval_docs[document])
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # tasks end the process where a video is missing
        raise BadInput(f"task {name!r} cannot be asked here: {cause(error)}") from error


def rehearse(name: str, task: Any, documents: Sequence[int]) -> None:
    """Score invented answers to `documents`. Raises BadInput with what stands in the way."""
    chosen = documents if len(documents) <= WHOLE else documents[:FEW]
    failure: list[str] = []

    def run() -> None:
        try:
            _score(name, task, chosen)
        except BaseException as error:  # handed to the thread that waits
            failure.append(f"{type(error).__name__}: {error}")

    # a judge that does not answer is asked again for minutes; nobody waits for that
    thread = Thread(target=run, daemon=True)
    with patch("sys.unraisablehook", lambda _: None):  # a scorer half made complains as it goes
        thread.start()
        thread.join(SECONDS)
    if thread.is_alive():
        raise BadInput(
            f"task {name!r} took over {SECONDS:.0f} s to score {len(chosen)} invented answers; "
            f"a judge that is asked for every answer needs its key{_instead(name)}"
        )
    if failure:
        java = "; its scorer is a Java program: install Java" if "'java'" in failure[0] else ""
        raise BadInput(f"task {name!r} cannot be scored here: {failure[0]}{java}{_instead(name)}")


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
