"""What `all`, no tasks and `--controls` mean where videos are shown."""

from __future__ import annotations

from harness.cli.app import main
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
    assert shows_videos(tasks_for("embedded-video"))
    assert not shows_videos(tasks_for("embedded"))
    assert shows_videos(("pope", "embedded_video_order"))


def test_a_comparison_about_clips_times_clips(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("harness.run.compare.compared", lambda request, _: asked.append(request))
    monkeypatch.setattr("harness.cli.results.finished", lambda *_: 0)
    words = f"compare --methods fastv --output {tmp_path / 'records'}".split()
    assert main([*words, "--model", "embedded-video", "--frames", "4", "--controls"]) == 0
    assert main([*words, "--model", "embedded-video", "--tasks", "embedded_count"]) == 0
    clips, images = asked
    assert (clips.tasks, clips.timed_frames) == (video.TASKS, (4,))
    assert [spec.name for spec in clips.methods] == ["fastv", "frames"]
    assert (images.tasks, images.timed_frames) == (("embedded_count",), None)
