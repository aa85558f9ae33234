"""What a running comparison shows: live on a terminal, plain lines elsewhere.

A run is one cell on one task, or the efficiency measurement of all cells.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, TextIO

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

    def begin(self, name: str, number: int, runs: int) -> None:
        """Run `number`, from 1, of `runs` starts."""
        self.name, self.number, self.runs, self.doing = name, number, runs, ""
        self.began = monotonic()
        if number == 1:
            self.started = self.began

    def advance(self, done: int, total: int, accuracy: float | None = None) -> None:
        """`done` of the run's `total` items; `accuracy` is the mean score so far."""

    def step(self, doing: str, number: int, total: int) -> None:
        """Number `number`, from 1, of `total` begins of what the run is `doing` now."""
        if doing != self.doing:
            self.doing = doing
            self.say(f"[{self.number}/{self.runs}] {self.name}: {doing}")

    def end(self, record: Record) -> None:
        """The run is finished."""
        now = monotonic()
        left = (now - self.started) / self.number * (self.runs - self.number)
        remaining = f", about {duration(left)} left" if self.number < self.runs else ""
        result, took = self.told(record), duration(now - self.began)
        self.say(f"[{self.number}/{self.runs}] {self.name}: {result} in {took}{remaining}")

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

    def begin(self, name: str, number: int, runs: int) -> None:
        super().begin(name, number, runs)
        text, self.drawn = visible(f"[{number}/{runs}] {name}"), 0.0
        self._draw(description=text, completed=(number - 1) / runs, state="")

    def advance(self, done: int, total: int, accuracy: float | None = None) -> None:
        whole = (self.number - 1 + done / max(total, 1)) / self.runs
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
