"""What a training run tells: JSON lines in a file, a bar or plain lines on the screen."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from harness.embedded.training.batches import Batch
from harness.embedded.training.objectives import Outcome, mean_outcome


class Log:
    """JSON lines in a file, a progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, path: Path, every: int = 25) -> None:
        self._path, self._every = path, every
        self._console, self._begin = Console(), time.monotonic()
        self._waiting: list[Outcome] = []

    def write(self, event: str, **values: object) -> None:
        """One line: the event, seconds since the run began and the values."""
        seconds = round(time.monotonic() - self._begin, 1)
        line = json.dumps({"event": event, "seconds": seconds, **values})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def add(self, phase: str, step: int, outcome: Outcome) -> None:
        """Writes the mean of the last steps' loss and accuracies every few steps."""
        self._waiting.append(outcome)
        if step % self._every:
            return
        mean = mean_outcome(self._waiting)
        right = {n: round(v, 3) for n, v in mean.right.items() if not math.isnan(v)}
        self.write("train", phase=phase, step=step, loss=round(mean.loss.item(), 4), right=right)
        self._waiting.clear()

    def track(self, name: str, stream: Iterator[Batch], first: int, last: int) -> Iterator[Batch]:
        """Passes the stream on, with a bar where there is a terminal."""
        if not self._console.is_terminal:
            yield from stream
            return
        with Progress(console=self._console) as progress:
            task = progress.add_task(name, total=last, completed=first)
            for batch in stream:
                yield batch
                progress.advance(task)
