"""Frames of videos: which, decoded how often, and what is said of files that have none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from video_files import greys, in_order, write_video

from harness.accuracy import videos
from harness.accuracy.videos import Videos, decoded
from harness.errors import BadInput


@pytest.mark.parametrize("name", ["mpeg4.mp4", "mpeg4.avi", "libx264.mp4", "libx264.mkv"])
def test_frames_are_those_that_decoding_in_order_gives(tmp_path: Path, name: str) -> None:
    """Key frames every twelve, and frames between that refer to later ones."""
    path = tmp_path / name
    write_video(path, greys(40), codec=path.stem, rate=10, bf=3, g=12)
    video, every = decoded(str(path), 7), in_order(path)
    assert (video.total, video.fps) == (len(every), 10) == (40, 10)
    assert video.places == (0, 6, 13, 19, 26, 32, 39)
    assert video.frames.dtype == np.uint8
    for place, frame in zip(video.places, video.frames, strict=True):
        assert (frame == every[place]).all()


def test_places_are_those_of_lmms_evals_llava_onevision(tmp_path: Path) -> None:
    """Which is `np.linspace(0, total_frame_num - 1, max_frames_num, dtype=int)`."""
    for total, count in ((3, 8), (16, 8), (33, 8), (5, 1)):
        path = tmp_path / f"{total}.mp4"
        write_video(path, greys(total))
        video = decoded(str(path), count)
        assert video.places == tuple(np.linspace(0, total - 1, count, dtype=int))
        assert video.frames.shape == (count, 32, 48, 3)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded."""
    seen: list[str] = []

    def telling(path: str, count: int) -> videos.Video:
        seen.append(Path(path).name)
        return decoded(path, count)

    monkeypatch.setattr(videos, "decoded", telling)
    return seen


def test_a_video_is_decoded_once_within_the_bound(tmp_path: Path, counted: list[str]) -> None:
    paths = [str(tmp_path / f"{i}.mp4") for i in range(3)]
    for path in paths:
        write_video(Path(path), greys(4))
    one = 2 * 32 * 48 * 3
    kept = Videos(2, most_bytes=2 * one)
    for _ in range(2):
        for path in paths:
            kept.read(path)
    assert counted == ["0.mp4", "1.mp4", "2.mp4", "2.mp4"]
    assert kept.kept_bytes == 2 * one
    kept.make_room()
    assert kept.kept_bytes == 0
    kept.read(paths[2])
    kept.make_room()
    kept.read(paths[2])
    assert counted[4:] == ["2.mp4"]


def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, greys(8))
    cut.write_bytes(whole.read_bytes()[:-600])
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path in (cut, empty):
        with pytest.raises(BadInput, match=f"^the video {path} cannot be read: ") as said:
            decoded(str(path), 2)
        assert "\n" not in str(said.value)
    with pytest.raises(BadInput, match=f"^there is no video {tmp_path / 'none.mp4'}$"):
        decoded(str(tmp_path / "none.mp4"), 2)


def test_a_file_of_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(BadInput, match="it holds no video"):
        decoded(str(path), 2)


def test_without_the_decoder_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "whole.mp4"
    write_video(path, greys(4))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadInput, match=r"pip install 'visual-token-pruning\[video\]'"):
        decoded(str(path), 2)
