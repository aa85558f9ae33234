"""Questions about videos: from files to answers, in batches with images and with text alone."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from pathlib import Path

import pytest
import torch
from PIL import Image
from video_checkpoints import WITH_VIDEOS
from video_files import write_video

from harness.accuracy.answers import Answer, Answerer, Question, SampleError
from harness.accuracy.videos import decoded
from harness.errors import BadInput
from harness.models.load import LoadedModel, load_model
from harness.models.protocols import OWN
from harness.models.videos import Video, check_takes_videos
from methods import Budget, get_method
from methods.encoded_batches import EncodedBatches, SharedBatch

FOUR = {"max_new_tokens": 4}
SHOWN = [(0, 1), (1, 0), (0, 1), (0, 0), (1, 1)]
"""Images and videos of each question."""


@pytest.fixture(scope="module", params=WITH_VIDEOS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    directory = tmp_path_factory.mktemp("models") / request.param
    WITH_VIDEOS[request.param](directory)
    return load_model(str(directory), "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Of 40 and 12 frames, at other rates and of other sizes, in each of which a square moves."""
    folder = tmp_path_factory.mktemp("videos")
    found = []
    for i, (frames, size, rate) in enumerate([(40, (64, 48), 10), (12, (48, 64), 2)]):
        pictures = []
        for place in range(frames):
            picture = Image.new("RGB", size, "white")
            picture.paste(["red", "blue"][i], (place, 8, place + 16, 24))
            pictures.append(picture)
        write_video(folder / f"{i}.mp4", pictures, rate=rate)
        found.append(decoded(str(folder / f"{i}.mp4"), 4))
    return found


def drawn() -> Image.Image:
    image = Image.new("RGB", (60, 40), "white")
    image.paste("green", (5, 5, 20, 20))
    return image


def questions(loaded: LoadedModel, videos: list[Video]) -> list[Question]:
    found = []
    for i, (pictures, clips) in enumerate(SHOWN):
        text = OWN.prompt(loaded.processor, "how many red objects ?", pictures, clips)
        visuals = [drawn()] * pictures + [videos[i // 2]] * clips if i < 4 else [drawn(), videos[0]]
        found.append(Question(str(i), lambda text=text, visuals=visuals: (text, visuals)))
    return found


def answered(
    loaded: LoadedModel, videos: list[Video], method: str, budget: Budget, batch: int
) -> list[Answer]:
    asked, answerer = questions(loaded, videos), Answerer(loaded, get_method(method), budget)
    batches = [asked[i : i + batch] for i in range(0, len(asked), batch)]
    return [answer for own in batches for answer in answerer.answer(own, FOUR)]


def test_answers_are_those_of_the_stock_model(loaded: LoadedModel, videos: list[Video]) -> None:
    """Prompt by prompt, as its processor makes it of the frames and their times."""
    found = answered(loaded, videos, "unpruned", Budget(fraction=1.0), batch=5)
    for question, answer in zip(questions(loaded, videos), found, strict=True):
        text, visuals = question.read()
        pictures = [visual for visual in visuals if isinstance(visual, Image.Image)]
        clips = [visual for visual in visuals if isinstance(visual, Video)]
        given = {"images": [pictures]} if pictures else {}
        if clips:
            given["videos"] = [list(map(Image.fromarray, clip.frames)) for clip in clips]
            given |= {"do_sample_frames": False, "video_metadata": [c.metadata() for c in clips]}
        inputs = loaded.processor(text=[text], return_tensors="pt", **given)
        with torch.no_grad():
            first = loaded.model(**inputs).logits[0, -1].log_softmax(-1)
        best = answer.first_token
        assert best["logprobs"] == pytest.approx(first[best["ids"]].tolist(), abs=2e-4)


def test_a_batch_keeps_of_each_what_it_keeps_alone(
    loaded: LoadedModel, videos: list[Video]
) -> None:
    share = Budget(fraction=0.4)
    together, alone = (answered(loaded, videos, "fastv", share, batch) for batch in (5, 1))
    for a, b in zip(together, alone, strict=True):
        assert (a.ledger, a.selections) == (b.ledger, b.selections)
        assert a.first_token["logprobs"] == pytest.approx(b.first_token["logprobs"], abs=2e-4)
        entering, visual = a.ledger["entering"], a.ledger["visual"]
        assert sum(entering) / len(entering) == pytest.approx(0.4 * visual, abs=1)


def test_a_video_is_one_thing_with_one_digest(loaded: LoadedModel, videos: list[Video]) -> None:
    found = answered(loaded, videos, "unpruned", Budget(fraction=1.0), batch=5)
    assert [len(answer.images) for answer in found] == list(map(sum, SHOWN))
    assert found[0].images == found[4].images[1:]
    assert found[0].images != found[2].images


def test_a_methods_budget_of_each_image_counts_a_video_as_one(
    loaded: LoadedModel, videos: list[Video]
) -> None:
    asked = questions(loaded, videos)
    answerer = Answerer(loaded, get_method("random"), Budget(6), per_image=True)
    one, both = answerer.answer([asked[0], asked[4]], FOUR)
    assert sum(one.ledger["entering"]) / len(one.ledger["entering"]) == pytest.approx(6, abs=1)
    assert sum(both.ledger["entering"]) / len(both.ledger["entering"]) == pytest.approx(12, abs=1)
    assert both.ledger["images"] == 2


def test_seconds_are_not_rounded_to_the_models_dtype(
    tmp_path: Path, videos: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    WITH_VIDEOS["qwen2.5-vl"](tmp_path / "qwen")
    loaded = load_model(str(tmp_path / "qwen"), "cpu", "bfloat16")
    seen: dict[str, torch.Tensor] = {}

    def generate(**given: torch.Tensor) -> None:
        seen.update(given)
        raise RuntimeError("enough was seen")

    monkeypatch.setattr(loaded.model, "generate", generate)
    clip = replace(videos[0], fps=29.97)
    text = OWN.prompt(loaded.processor, "how many ?", 0, 1)
    with pytest.raises(SampleError, match="enough was seen"):
        Answerer(loaded, get_method("unpruned"), Budget(fraction=1.0)).answer(
            [Question("0", lambda: (text, [clip]))], FOUR
        )
    seconds = 2 * clip.total / clip.fps / len(clip.places)
    assert seen["second_per_grid_ts"].tolist() == pytest.approx([seconds], rel=1e-6)
    assert seen["pixel_values_videos"].dtype == torch.bfloat16


def test_a_family_without_videos_is_named() -> None:
    with pytest.raises(BadInput, match="LlavaForConditionalGeneration takes no videos; allowed: "):
        check_takes_videos(load_model("tiny", "cpu").model)


@pytest.mark.parametrize("method", ["random", "fastv"])
def test_a_batch_that_is_encoded_once_is_answered_the_same(
    loaded: LoadedModel, videos: list[Video], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, budget, store = questions(loaded, videos), Budget(fraction=0.5), EncodedBatches(2**30)
    first = Answerer(loaded, get_method("unpruned"), Budget(fraction=1.0), batches=store)
    first.answer(asked, FOUR)
    assert 0 < store.stored_bytes < 2**24
    encoded: list[int] = []
    for name in ("get_image_features", "get_video_features"):
        encode = getattr(loaded.model.model, name, None)
        if encode is not None:
            monkeypatch.setattr(loaded.model.model, name, _counted(encode, encoded))
    shared = Answerer(loaded, get_method(method), budget, batches=store, prompts=first.prompts)
    found = shared.answer(asked, FOUR)
    assert not encoded
    assert found == Answerer(loaded, get_method(method), budget).answer(asked, FOUR)
    assert encoded


def test_what_looks_into_the_tower_or_changes_the_picture_shares_no_batch() -> None:
    for name in ("random", "fastv", "sparsevlm", "vidcom2", "frames", "unpruned"):
        assert SharedBatch.serves(get_method(name))
    for name in ("visionzip", "vitcop", "flowcut", "downsample", "fastvid"):
        assert not SharedBatch.serves(get_method(name))


def _counted(encode, calls: list[int]):
    """The same, which notes that it was called."""

    @wraps(encode)
    def counted(*args, **kwargs):
        calls.append(1)
        return encode(*args, **kwargs)

    return counted


def test_batches_past_the_bound_are_encoded_each_time(
    loaded: LoadedModel, videos: list[Video]
) -> None:
    store = EncodedBatches(100)
    answerer = Answerer(loaded, get_method("random"), Budget(fraction=0.5), batches=store)
    asked = questions(loaded, videos)
    assert answerer.answer(asked, FOUR) == answerer.answer(asked, FOUR)
    assert store.stored_bytes == 0
