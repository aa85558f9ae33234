"""Tasks that show videos: identities, how often is decoded, and what stands in their way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foreign_task import Content, make_foreign, show
from video_checkpoints import WITH_VIDEOS
from video_files import greys, write_video

from harness.accuracy import videos
from harness.accuracy.answers import SampleError
from harness.accuracy.instrument import Accuracy
from harness.accuracy.lmms.media import shown_by
from harness.accuracy.rehearsal import FEW
from harness.errors import BadInput
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell

TASK = "embedded_count"
CELLS = [Cell.parse("unpruned"), Cell.parse("random@10")]
ASKED = 6
"""Questions; two of each video."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    directory = tmp_path_factory.mktemp("models") / "onevision"
    WITH_VIDEOS["onevision"](directory)
    return load_model(str(directory), "cpu")


Build = Callable[..., Accuracy]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def shows(
    loaded: LoadedModel, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Build:
    """An accuracy of a task that shows a video beside each question."""
    make_foreign(monkeypatch, data, TASK)
    for i in range(ASKED // 2):
        write_video(tmp_path / f"{i}.mp4", greys(6 + i, (64, 48)))

    def content(number: int, own: Content) -> Content:
        video = {"type": "video", "url": str(tmp_path / f"{number // 2}.mp4")}
        return [video, *(part for part in own if part["type"] == "text")]

    def build(model: LoadedModel = loaded, **given: Any) -> Accuracy:
        accuracy = Accuracy(model, [TASK], limit=ASKED, **given)
        show(monkeypatch, accuracy.tasks.load(TASK), content)
        return accuracy

    return build


def test_an_identity_holds_the_frames_where_a_task_shows_videos(shows: Build) -> None:
    assert [dict(piece.identity)["frames"] for piece in shows().pieces(CELLS)] == [8, 8]
    assert dict(shows(frames=3).pieces(CELLS)[0].identity)["frames"] == 3


def test_an_identity_of_images_is_as_it_was(loaded: LoadedModel) -> None:
    for piece in Accuracy(loaded, [TASK], limit=2, frames=3).pieces(CELLS):
        assert "frames" not in piece.identity


def test_videos_are_decoded_once_for_all_cells(
    shows: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def telling(path: str, count: int) -> videos.Video:
        seen.append(Path(path).name)
        return decoded(path, count)

    decoded = videos.decoded
    monkeypatch.setattr(videos, "decoded", telling)
    accuracy = shows(frames=2)
    accuracy.rehearse(TASK, CELLS)
    found = [accuracy.answer(cell, TASK, range(ASKED)) for cell in CELLS]
    assert sorted(seen) == ["0.mp4", "1.mp4", "2.mp4"]
    for answers in found:
        assert len({sample["image"] for sample in answers["samples"]}) == ASKED // 2
    assert found[0]["ledger"][0]["entering"][0] == 2 * 9 + 1


def test_a_missing_video_of_any_question_is_named_at_the_rehearsal(
    shows: Build, tmp_path: Path
) -> None:
    assert FEW // 2 <= 2
    (tmp_path / "2.mp4").unlink()
    with pytest.raises(BadInput, match=f"there is no video {tmp_path / '2.mp4'}$"):
        shows().rehearse(TASK, CELLS)


def test_a_broken_video_is_named_at_the_rehearsal(shows: Build, tmp_path: Path) -> None:
    (tmp_path / "1.mp4").write_bytes(b"no video")
    with pytest.raises(BadInput, match=f"^the video {tmp_path / '1.mp4'} cannot be read: "):
        shows().rehearse(TASK, CELLS)


def test_a_broken_video_of_a_later_question_fails_the_cell(shows: Build, tmp_path: Path) -> None:
    (tmp_path / "2.mp4").write_bytes(b"no video")
    accuracy = shows()
    accuracy.rehearse(TASK, CELLS)
    wanted = f"^{TASK}/[45]: the video {tmp_path / '2.mp4'} cannot be read: "
    with pytest.raises(SampleError, match=wanted):
        accuracy.answer(CELLS[0], TASK, range(ASKED))


def test_a_task_that_ends_the_process_fails_the_cell(
    shows: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = shows()

    def missing(number: int, own: Content) -> Content:
        sys.exit("video path:3.mp4 does not exist, please check")

    accuracy.documents(TASK)
    show(monkeypatch, accuracy.tasks.load(TASK), missing)
    with pytest.raises(SampleError, match=f"^{TASK}/0: video path:3.mp4 does not exist"):
        accuracy.answer(CELLS[0], TASK, [0])


def test_a_family_without_videos_is_refused_before_any_is_decoded(
    shows: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "decoded", pytest.fail)
    with pytest.raises(BadInput, match="LlavaForConditionalGeneration takes no videos; allowed"):
        shows(load_model("tiny", "cpu")).rehearse(TASK, CELLS[:1])


def test_a_missing_decoder_is_one_sentence_at_the_rehearsal(
    shows: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = shows()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadInput, match=r"^videos need the extra: pip install "):
        accuracy.rehearse(TASK, CELLS)


REFUSED = {
    "plays audio": {"type": "audio", "url": "a.wav"},
    "shows parts of videos": {"type": "video", "url": "a.mp4", "start_time": 1.0},
    "shows a video as list; only whole files": {"type": "video", "url": [1, 2]},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_else_a_task_may_show_is_refused(sentence: str) -> None:
    turn = {"role": "user", "content": [REFUSED[sentence]]}
    task = SimpleNamespace(doc_to_messages=lambda document: [turn])
    with pytest.raises(BadInput, match=f"^task t {sentence}"):
        shown_by("t", task, {})


def test_visuals_are_told_apart_as_lmms_eval_does() -> None:
    task = SimpleNamespace(doc_to_visual=lambda document: ["a.mp4", "b.png", "c.mkv"])
    shown = shown_by("t", task, {})
    assert (shown.images, shown.videos, shown.number) == (["b.png"], ["a.mp4", "c.mkv"], 3)
