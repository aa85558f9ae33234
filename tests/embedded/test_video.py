"""Clips, their questions and what trains on them: drawn alike everywhere, and true."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch

from harness.embedded import benchmark as images
from harness.embedded import checkpoint_path
from harness.embedded.scenes import COLOURS
from harness.embedded.training import clip_batches, train_clips
from harness.embedded.training.batches import IGNORED
from harness.embedded.training.clip_batches import ClipRecipe
from harness.embedded.training.clip_objectives import frame_features, pointing_loss
from harness.embedded.training.objectives import normalised, tower_of
from harness.embedded.training.train import train_step
from harness.embedded.training.turns import TURNS, Look, turns_mask
from harness.embedded.video import architecture, benchmark, clips, questions
from harness.embedded.video.clips import APPEARING, CHANGING, FRAMES, MOVING

CPU = torch.device("cpu")
RECIPE = ClipRecipe(2, 3, 4, 6, (24,))


def drawn(number: int) -> clips.Clip:
    return clips.draw(np.random.RandomState((7, number)))


@pytest.fixture(scope="module")
def many() -> list[clips.Clip]:
    return [drawn(number) for number in range(60)]


def test_the_benchmark_is_the_one_that_was_drawn_elsewhere() -> None:
    assert benchmark.digest() == benchmark.DIGEST


def test_every_answer_to_a_kind_of_question_is_equally_often_right() -> None:
    for task in benchmark.TASKS:
        found = Counter(benchmark.stratum(i.question, i.answer) for i in benchmark.items(task))
        assert found == benchmark.quotas(task)
        assert found.total() == images.QUESTIONS
        assert benchmark.majority(task) < 0.3


def test_frames_show_what_tracks_say(many: list[clips.Clip]) -> None:
    seen: Counter[str] = Counter()
    for clip in many:
        assert clip.frames.shape == (FRAMES, clips.SIDE, clips.SIDE, 3)
        for number, track in enumerate(clip.tracks, 1):
            shown = [bool((clip.owners[frame] == number).any()) for frame in range(FRAMES)]
            assert shown == [state is not None for state in track.states]
            seen[track.kind] += 1
    assert min(seen[kind] for kind in clips.KINDS) > 10


def test_successive_frames_differ_so_that_files_keep_all_of_them(many: list[clips.Clip]) -> None:
    for clip in many:
        assert all((a != b).any() for a, b in zip(clip.frames, clip.frames[1:], strict=False))


def test_tracks_have_no_colour_in_common_and_never_touch(many: list[clips.Clip]) -> None:
    for clip in many:
        colours = [{s.colour for s in track.states if s} for track in clip.tracks]
        assert sum(map(len, colours)) == len(set().union(*colours))
        assert clip.tracks[0].kind == MOVING
        onsets = sorted(track.onset for track in clip.tracks if track.kind == APPEARING)
        assert all(later - earlier >= clips.APART for earlier, later in itertools.pairwise(onsets))


def test_answers_are_what_the_tracks_do(many: list[clips.Clip]) -> None:
    asked: Counter[str] = Counter()
    for clip in many:
        for task in questions.TASKS:
            for question in questions.possible(task, clip.tracks):
                assert question.answer in questions.WORDS
                assert set(question.text.split()) <= set(questions.WORDS)
                asked[task] += 1
        for question in questions.possible("direction", clip.tracks):
            first, last = (clip.tracks[question.track].states[f] for f in (0, -1))
            assert first is not None
            assert last is not None
            step = np.sign([last.x - first.x, last.y - first.y]).tolist()
            assert tuple(step) == clips.WAYS[question.answer]
        for question in questions.possible("change", clip.tracks):
            state = clip.tracks[question.track].states[question.frame]
            assert clip.tracks[question.track].kind == CHANGING
            assert state is not None
            assert COLOURS[state.colour] == question.answer
        for question in questions.possible("order", clip.tracks):
            onsets = [t.onset for t in clip.tracks if t.kind == APPEARING]
            wanted = min(onsets) if "first" in question.text else max(onsets)
            assert clip.tracks[question.track].onset == wanted
        for question in questions.possible("events", clip.tracks):
            kind = APPEARING if "appear" in question.text else MOVING
            assert int(question.answer) == sum(t.kind == kind for t in clip.tracks)
    assert min(asked[task] for task in questions.TASKS) > 15


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="'speed'"):
        questions.possible("speed", ())
    with pytest.raises(ValueError, match="embedded_video_direction"):
        benchmark.items("embedded_video_speed")


def test_batches_depend_on_their_key_alone_and_label_what_frames_show() -> None:
    recipe = ClipRecipe(3, 3, 5, 8, (20, 32), (8, 4))
    one, two = (clip_batches.training_batch((1, 2, 3), recipe) for _ in range(2))
    for name in ("pixels", "shown", "labels", "ids", "looks"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    frames = one.pixels.shape[1]
    assert one.labels.shape == (3, frames * 64, 3)
    passed = (one.labels[..., 0] > 0).reshape(3, frames, 64).any(1)
    shown = np.unique(one.shown % 64)
    assert len(one.shown[0]) in (20 * frames, 32 * frames)
    assert set(np.flatnonzero(passed[0])) <= set(one.shown[0] % 64) or passed[0].sum() > 20
    assert shown.max() < 64


def test_a_look_goes_to_the_frame_that_is_asked_about() -> None:
    batch = clip_batches.training_batch((1, 2, 3), ClipRecipe(6, 4, 5, 12))
    words = questions.WORDS
    checked = 0
    for clip in range(6):
        for place in np.flatnonzero(batch.looks[clip, :, 3, 0] > 0):
            turn = batch.turns[clip] == batch.turns[clip, place]
            text = [words[i] for i in batch.ids[clip][turn]]
            frame = batch.looks[clip, place, 3, 1]
            if "start" in text:
                assert frame == 0
                checked += 1
            elif "end" in text:
                assert frame == FRAMES - 1
                checked += 1
    assert checked > 10


def test_training_pools_frames_as_the_model_does() -> None:
    model = architecture.build_tiny()
    frames = torch.from_numpy(drawn(1).frames)
    with torch.no_grad():
        pixels = normalised(frames)
        ours = model.model.multi_modal_projector(frame_features(tower_of(model), pixels))
        theirs = model.model.get_video_features(
            pixels[None], vision_feature_layer=-2, vision_feature_select_strategy="default"
        )
    features = getattr(theirs, "pooler_output", theirs)
    torch.testing.assert_close(ours.flatten(0, 1), torch.cat(list(features)).reshape(-1, 32))


def test_pointing_is_free_where_all_attention_is_where_it_should_be() -> None:
    batch = clip_batches.training_batch((1, 5), RECIPE)
    turns = torch.from_numpy(batch.turns)
    mask = turns_mask(turns, torch.ones_like(turns), 2, batch.shown.shape[1])[:, 0]
    tracks = np.take_along_axis(batch.labels[..., 0].astype(np.int64), batch.shown, 1)
    wanted = tracks[:, None] == batch.looks[..., 0, 0][..., None]
    keys = torch.eye(64)[tracks]
    assert wanted.any()
    text = torch.zeros(len(tracks), 2 + batch.ids.shape[1], 64)
    keys = torch.cat([text[:, :2], keys, text[:, 2:]], 1)
    queries = 100 * torch.eye(64)[batch.looks[..., 0, 0]]
    right, blank = (
        pointing_loss([Look(q, keys, mask, 1.0)], batch, CPU)[0] for q in (queries, 0 * queries)
    )
    assert right.item() == pytest.approx(0, abs=1e-3)
    assert blank.item() > 1


def test_a_few_steps_reduce_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model = architecture.build()
    architecture.load_images(checkpoint_path(), model)
    model.set_attn_implementation({"vision_config": "sdpa", "text_config": TURNS})
    phase = train_clips.ClipPhase(
        name="few", steps=9, recipe=RECIPE, rate=1e-3, last=0.5, warm=1, naming=0.5, pointing=1.0
    )
    batch = clip_batches.training_batch((1, 0), RECIPE)
    assert (batch.targets != IGNORED).any()
    optimiser = torch.optim.AdamW([{"params": [*model.parameters()], "peak": phase.rate}])
    learn = partial(train_clips.part_outcome, model, phase, CPU)
    losses = [train_step(learn, optimiser, phase, 1, batch).loss.item() for _ in range(5)]
    assert losses[-1] < 0.9 * losses[0]
