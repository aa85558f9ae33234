"""lmms-eval's tasks by name, data loaded once; embedded ones are written for it first."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache, cached_property
from importlib.util import find_spec
from inspect import getsource
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any

from harness.embedded import benchmarks
from harness.errors import BadInput, cause, unknown
from harness.models.environment import prepare_environment
from harness.models.protocols import OWN, Protocol


def members(names: Sequence[str]) -> tuple[str, ...]:
    """The tasks themselves, groups of them written out, each once; without loading data.

    A name that no task file holds is refused at once; another takes seconds, because lmms-eval
    reads all its task files. Raises BadInput for what is neither a task nor a group.
    """
    for name in names:
        if name not in benchmarks.TASKS:
            _check_mentioned(name)
    own = {task: [task] for task in benchmarks.TASKS}
    return tuple(dict.fromkeys(task for name in names for task in own.get(name) or _inside(name)))


def _check_mentioned(name: str) -> None:
    """Looks at the letters alone: what is no word of a task file is no name in it either."""
    words, names = _words_of_task_files()
    if name not in words:
        raise unknown("task", name, [*benchmarks.TASKS, *names])


@cache
def _words_of_task_files() -> tuple[frozenset[str], list[str]]:
    """All words of lmms-eval's task files, and those that stand as a name; does not import it."""
    package = find_spec("lmms_eval")
    folders = package.submodule_search_locations if package else None
    paths = [path for folder in folders or () for path in Path(folder, "tasks").rglob("*yaml*")]
    text = "\n".join(path.read_text(errors="replace") for path in paths if path.is_file())
    words = frozenset(re.split(r"[\s,:#\[\]{}\"']+", text))
    names = re.findall(r"^(?:task|group|tag): *[\"']?([^\s,\"'#]+)", text, re.MULTILINE)
    return words, list(dict.fromkeys(names))


class TaskLibrary:
    """The tasks of a comparison, worded for a protocol; `names` tells which there will be.

    Embedded tasks are written to a temporary directory, which goes with this object.
    """

    def __init__(self, names: Sequence[str], protocol: Protocol = OWN) -> None:
        self._protocol = protocol
        self._own = [name for name in names if name in benchmarks.TASKS]
        self._loaded: dict[str, Any] = {}
        self._versions: dict[str, str] = {}

    def load(self, name: str) -> Any:
        """The task `name`; its data is loaded by the first call. Raises BadInput."""
        if name not in self._loaded:
            members([name])
            own = name in self._own
            task = self._load_own(name) if own else _load(_shipped(), name, name, self._protocol)
            self._loaded[name] = task
            # now, because lmms-eval writes into a task's settings when it runs it
            self._versions[name] = _version(task)
        return self._loaded[name]

    def version(self, name: str) -> str:
        """Differs whenever questions, data, prompts or scoring of the task do. Raises BadInput."""
        if name in self._own:
            own = benchmarks.benchmark_of(name)
            return f"{own.version}-{own.digest[:12]}"
        self.load(name)
        return self._versions[name]

    def _load_own(self, name: str) -> Any:
        """With the datasets library's copy of the data beside it, not in the home directory."""
        from lmms_eval.utils import load_yaml_config

        manager = self._written
        described = load_yaml_config(manager.task_index[name]["yaml_path"], mode="simple")
        kwargs = {**described["dataset_kwargs"], "cache_dir": f"{self._directory.name}/datasets"}
        wanted = {"task": name, "dataset_kwargs": kwargs}
        return _load(manager, name, wanted, self._protocol)

    @cached_property
    def _written(self) -> Any:
        """lmms-eval's index of the embedded tasks."""
        from harness.embedded import export  # needs pyarrow

        path = Path(self._directory.name) / "tasks"
        export.write(path, self._own)
        return _index(str(path))

    @cached_property
    def _directory(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="harness-")


@cache
def _shipped() -> Any:
    """lmms-eval's index of the tasks that it ships; takes seconds."""
    return _index(None)


def _index(path: str | None) -> Any:
    prepare_environment()
    with quiet():
        from lmms_eval.tasks import TaskManager

        return TaskManager(include_path=path, include_defaults=path is None)


def _inside(part: Any) -> Iterator[str]:
    """The tasks of what stands in a group: a name, a group written there, or a list of them."""
    if isinstance(part, list):
        for each in part:
            yield from _inside(each)
    elif isinstance(part, dict):
        yield from _inside(part["task"])
    else:
        yield from _named(part)


def _named(name: str) -> Iterator[str]:
    index = _shipped().task_index
    if name not in index:
        raise unknown("task", name, [*benchmarks.TASKS, *index])
    if index[name]["type"] not in ("group", "tag"):
        yield name
    elif isinstance(index[name]["task"], list):
        yield from _inside(index[name]["task"])
    else:
        from lmms_eval.utils import load_yaml_config

        yield from _inside(load_yaml_config(index[name]["yaml_path"], mode="simple")["task"])


def _load(manager: Any, name: str, wanted: str | dict[str, Any], protocol: Protocol) -> Any:
    from tenacity import RetryError

    manager.model_name, kind = protocol.known_as, "simple" if protocol.simple else "chat"
    with quiet(), _without_progress_bars():
        try:
            task = manager.load_task_or_group([wanted], kind)[name]
        except RetryError as error:
            known = error.last_attempt.exception()
            raise BadInput(f"the data of task {name!r} cannot be loaded: {known}") from known
        except Exception as error:  # of the task's own code, or of data without its split
            raise BadInput(f"task {name!r} cannot be loaded: {cause(error)}") from error
    if task.OUTPUT_TYPE != "generate_until":
        raise BadInput(
            f"task {name!r} is of type {task.OUTPUT_TYPE}; allowed: tasks that generate one "
            "answer (generate_until)"
        )
    return task


def _version(task: Any) -> str:
    """The task's own, with a digest of its settings, its functions' source and its data."""
    described = [vars(task.config), len(task.eval_docs), task.eval_docs._fingerprint]
    text = json.dumps(described, sort_keys=True, default=_described)
    return f"{task.VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _described(value: object) -> str:
    if isinstance(value, FunctionType):
        return getsource(value)
    # the text of other callables holds an address, which differs in every process
    return type(value).__qualname__ if callable(value) else str(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Sends to standard error what lmms-eval prints; its log goes there, too, from now on."""
    from loguru import logger

    with redirect_stdout(sys.stderr):
        import lmms_eval.models  # noqa: F401 - puts its log on standard output

        logger.remove()
        logger.add(sys.stderr, level="WARNING", format="{message}")
        yield


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from datasets.utils.logging import (
        disable_progress_bar,
        enable_progress_bar,
        is_progress_bar_enabled,
    )

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()
