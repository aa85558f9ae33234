"""What `all`, no tasks and `--controls` mean where videos are shown."""

from __future__ import annotations

from harness.cli.words import parse_methods, parse_tasks, shows_videos, tasks_for
from harness.embedded import benchmark
from harness.embedded.video import benchmark as video
from methods.registry import methods


def names(text: str, **options: bool) -> list[str]:
    return [spec.name for spec in parse_methods(text, **options)]


def test_all_has_the_methods_for_videos_where_videos_are_shown() -> None:
    of_video = {name for name, method in methods().items() if method.of_video}
    assert {"vidcom2", "dycoke", "fastvid", "framefusion", "frames"} <= of_video
    assert not of_video & {*names("all")}
    assert {*names("all", videos=True)} - {*names("all")} == of_video
    assert "downsample" not in names("all", videos=True)


def test_controls_begin_with_fewer_frames_where_videos_are_shown() -> None:
    assert names("fastv", controls=True) == ["fastv"]
    assert names("fastv", videos=True, controls=True) == ["fastv", "frames"]
    assert names("all", videos=True, controls=True).count("frames") == 1


def test_each_embedded_model_is_asked_its_own_tasks() -> None:
    assert tasks_for("embedded") == benchmark.TASKS == parse_tasks("embedded")
    assert tasks_for("embedded-video") == video.TASKS == parse_tasks("embedded-video")
    assert tasks_for("some/llava") == benchmark.TASKS
    assert shows_videos("embedded-video")
    assert not shows_videos("embedded")
