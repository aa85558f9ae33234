"""What is said while a comparison runs."""

from __future__ import annotations

import io

import pytest

from harness.run.progress import Progress, duration, score


def test_live_progress_shows_cell_items_accuracy_and_time_left(monkeypatch):
    from rich.console import Console

    from harness.run.progress import LiveProgress, progress_on

    class Screen(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    progress = progress_on(screen, str)
    assert isinstance(progress, LiveProgress)
    progress.expect(4)
    progress.number = 2
    progress.begin("fastv@64 count")
    progress.advance(30, 40, 0.625)
    drawn = Console(file=io.StringIO(), width=120)
    drawn.print(progress.bar.get_renderable())
    text = drawn.file.getvalue()
    assert "[2/4] fastv@64 count" in text
    assert "30/40 · accuracy 62.5 %" in text
    assert "left" in text
    progress.end("62.5 %")
    progress.expect(1)
    progress.begin("efficiency")
    progress.step("rounds", 6, 20)
    drawn.print(progress.bar.get_renderable())
    assert "rounds 6/20 · 0 s left" in drawn.file.getvalue()
    progress.stop()
    assert "[2/4] fastv@64 count: 62.5 % in 0 s" in screen.getvalue()


def test_live_progress_goes_by_questions_where_runs_are_answered_in_parts(monkeypatch):
    from harness.run.progress import LiveProgress

    monkeypatch.setenv("TERM", "xterm")
    screen = io.StringIO()
    progress = LiveProgress(screen, str)
    progress.expect(2)
    progress.expect_questions(8)
    progress.begin("fastv@64 gqa")
    progress.advance(1, 4, 1.0)
    progress.answered("fastv@64 gqa", 2, 200.0)
    progress.part("fastv@64 gqa", 2, 4, "host process 7")
    assert progress.bar.tasks[0].completed == 0.25
    progress.answered("fastv@64 gqa", 2, 100.0)
    progress.end("62.5 %")
    progress.stop()
    said = screen.getvalue()
    assert "[1/2] fastv@64 gqa: 2 of 4 questions answered by host process 7, " in said
    assert "[1/2] fastv@64 gqa: 62.5 % in 5 min, about 0 s left" in said


def test_plain_progress_names_each_part_of_a_run_once():
    said = io.StringIO()
    progress = Progress(said, str)
    progress.expect(1)
    progress.begin("efficiency")
    for doing, number in (("warm-up", 1), ("warm-up", 2), ("rounds", 1), ("rounds", 2)):
        progress.step(doing, number, 2)
    assert said.getvalue().splitlines() == [
        "[1/1] efficiency: warm-up",
        "[1/1] efficiency: rounds",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.4, "8 s"), (89, "89 s"), (200, "3 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_scores_are_percent_where_they_can_be():
    assert (score(0.6251), score(1523.4)) == ("62.5 %", "1523")
