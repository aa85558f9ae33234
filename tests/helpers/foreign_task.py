"""An embedded task that is taken for one of lmms-eval's own, so that it may be made to differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.accuracy import fitting
from harness.accuracy.lmms import tasks as lmms_tasks
from harness.embedded import benchmark, benchmarks, export

Content = list[Mapping[str, Any]]
"""Of the one turn of a question: what is shown, and its text."""


def make_foreign(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Until the test ends; its data lie in the folder."""
    monkeypatch.setattr(
        "lmms_eval.api.task._resolve_hf_datasets_cache_dir", lambda: str(folder / "datasets")
    )
    export.write(folder / "benchmark", [name])
    index = lmms_tasks._index(str(folder / "benchmark"))
    monkeypatch.setattr(benchmark, "TASKS", ())
    monkeypatch.setattr(benchmarks, "TASKS", ())
    monkeypatch.setattr(lmms_tasks, "_shipped", lambda: index)
    monkeypatch.setattr(lmms_tasks, "_words_of_task_files", lambda: (frozenset({name}), [name]))
    monkeypatch.setattr(fitting, "_images_held", lambda table: [])


def show(
    monkeypatch: pytest.MonkeyPatch, task: Any, content: Callable[[int, Content], Content]
) -> None:
    """Ask with another content, which is made of a document's number and its own."""
    numbers = {document["item_id"]: i for i, document in enumerate(task.eval_docs)}
    once = task.doc_to_messages

    def messages(document: Any) -> Any:
        (turn,) = once(document)
        return [{**turn, "content": content(numbers[document["item_id"]], turn["content"])}]

    monkeypatch.setattr(task, "doc_to_messages", messages)
