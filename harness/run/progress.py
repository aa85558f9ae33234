"""What a running comparison shows: live on a terminal, plain lines elsewhere.

A run is one cell on one task, or the efficiency measurement of all cells.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from statistics import fmean
from time import monotonic
from typing import Any, TextIO

from harness.records.piece import Listener, OnItem
from harness.records.record import Record
from harness.visible import visible


class Progress:
    """Plain: a line for each finished run, with the time left if all runs take like the mean.

    `told`: a finished record in a few words.
    """

    def __init__(self, file: TextIO, told: Callable[[Record], str]) -> None:
        self.file, self.told = file, told
        self.name, self.number, self.runs, self.doing = "", 0, 0, ""
        self.began = self.started = monotonic()
        self.questions = self.asked = 0
        self.seconds: dict[str, float] = {}

    def expect(self, runs: int) -> None:
        """So many runs begin."""
        self.number, self.runs, self.questions, self.asked = 1, runs, 0, 0
        self.started = monotonic()

    def expect_questions(self, questions: int) -> None:
        """They are answered so many at a time, of any run."""
        self.questions, self.asked, self.started = questions, 0, monotonic()

    def begin(self, name: str) -> None:
        """A run, or a part of one, begins; its number is that of the runs that ended, and one."""
        if name != self.name:
            self.began = monotonic()
        self.name, self.doing = name, ""

    def advance(self, done: int, total: int, accuracy: float | None = None) -> None:
        """`done` of the run's `total` items; `accuracy` is the mean score so far."""

    def step(self, doing: str, number: int, total: int) -> None:
        """Number `number`, from 1, of `total` begins of what the run is `doing` now."""
        if doing != self.doing:
            self.doing = doing
            self.say(f"[{self.number}/{self.runs}] {self.name}: {doing}")

    def answered(self, name: str, questions: int, seconds: float) -> None:
        """Questions of a run that took so long."""
        self.asked += questions
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def part(self, name: str, done: int, total: int, worker: str = "") -> None:
        """So many of all questions of a run that goes on are answered."""
        rate = self.asked / max(monotonic() - self.started, 1e-9)
        by = f" by {worker}" if worker else ""
        self.say(
            f"[{self.number}/{self.runs}] {name}: {done:,} of {total:,} questions answered{by}, "
            f"{rate:.3g} a second{self._remaining()}"
        )

    def end(self, record: Record) -> None:
        """The run is finished."""
        took = duration(self.seconds.pop(self.name, monotonic() - self.began))
        done = f"{self.name}: {self.told(record)} in {took}{self._remaining()}"
        self.say(f"[{self.number}/{self.runs}] {done}")
        self.number += 1

    def _remaining(self) -> str:
        done, total = (self.asked, self.questions) if self.questions else (self.number, self.runs)
        if done >= total:
            return ""
        left = (monotonic() - self.started) * (total / max(done, 1) - 1)
        return f", about {duration(left)} left"

    def say(self, line: str) -> None:
        """One line of its own."""
        print(visible(line), file=self.file, flush=True)

    def stop(self) -> None:
        """Leave the terminal as it was; also after an interruption."""


class LiveProgress(Progress):
    """Adds a line that changes: run, bar over all runs, items, running accuracy, time left.

    It is drawn by the calls alone: a thread that draws would disturb what is being timed.
    """

    def __init__(self, file: TextIO, told: Callable[[Record], str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        super().__init__(file, told)
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}", markup=False),
            console=Console(file=file, highlight=False),
            transient=True,
            auto_refresh=False,
        )
        self.drawn = 0.0
        self.task = self.bar.add_task("", total=1.0, state="")
        self.bar.start()

    def begin(self, name: str) -> None:
        super().begin(name)
        text, self.drawn = visible(f"[{self.number}/{self.runs}] {name}"), 0.0
        self.first: int | None = None
        self._draw(description=text, completed=self._whole(0, 1), state="")

    def part(self, name: str, done: int, total: int, worker: str = "") -> None:
        super().part(name, done, total, worker)
        self._draw(completed=self._whole(0, 1))

    def _whole(self, done: int, total: int) -> float:
        """The share of all that is done, with `done` of what is being done now."""
        if self.questions:
            return min((self.asked + done) / self.questions, 1.0)
        return (self.number - 1 + done / max(total, 1)) / self.runs

    def advance(self, done: int, total: int, accuracy: float | None = None) -> None:
        self.first = done - 1 if self.first is None else self.first
        whole = self._whole(done - self.first if self.questions else done, total)
        left = (monotonic() - self.started) * (1 / whole - 1) if whole else 0.0
        state = [f"{done}/{total}"]
        state += [] if accuracy is None else [f"accuracy {score(accuracy)}"]
        state += [f"{duration(left)} left"] if done else []
        self._draw(completed=whole, state=" · ".join(state))

    def step(self, doing: str, number: int, total: int) -> None:
        if doing != self.doing:
            self.doing, self.doing_since = doing, monotonic()
        done, state = number - 1, f"{doing} {number}/{total}"
        if done:
            left = (monotonic() - self.doing_since) * (total / done - 1)
            state += f" · {duration(left)} left"
        self._draw(completed=done / total, state=state)

    def _draw(self, **fields: Any) -> None:
        """At most ten times a second."""
        now = monotonic()
        self.bar.update(self.task, refresh=now - self.drawn > 0.1, **fields)
        if now - self.drawn > 0.1:
            self.drawn = now

    def say(self, line: str) -> None:
        self.bar.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self.bar.stop()


def mean_told(listener: Listener, done: int, total: int) -> OnItem:
    """Tells how many items are done, of which `done` before, and the mean of the scores since."""
    scores, number = list[float](), count(done + 1)

    def on_item(score: float | None) -> None:
        scores.extend(() if score is None else (score,))
        listener.advance(next(number), total, fmean(scores) if scores else None)

    return on_item


def progress_on(file: TextIO, told: Callable[[Record], str]) -> Progress:
    """Live where `file` is a terminal."""
    return LiveProgress(file, told) if file.isatty() else Progress(file, told)


def score(mean: float) -> str:
    """A mean score, in percent where it can be one."""
    return f"{100 * mean:.1f} %" if 0 <= mean <= 1 else f"{mean:.4g}"


def duration(seconds: float) -> str:
    """`8 s`, `3 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
