"""Training learns, depends on its seed alone and goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

from harness.embedded import architecture, benchmark
from harness.embedded.questions import (
    BEGIN,
    END,
    IMAGE,
    LISTING,
    PLURALS,
    TASKS,
    USER,
    WORDS,
    word_ids,
)
from harness.embedded.scenes import COLOURS, SHAPES
from harness.embedded.training import batches, checkpoints, objectives, train
from harness.embedded.training.batches import WHOLE, Recipe
from harness.embedded.training.checkpoints import Place
from harness.embedded.training.guides import NAMED, pointing_loss
from harness.embedded.training.phases import REDUCED, Phase
from harness.embedded.training.turns import Look, turns_mask
from harness.errors import BadInput
from methods import Budget, attach, get_method

CPU = torch.device("cpu")
RECIPE = Recipe(2, 8, 1, 3, 4, by_shape=0.5, blind=1)
PHASES = (
    Phase(
        name="tower",
        steps=3,
        recipe=Recipe(2, 8, 0, 3, 0),
        layers=0,
        rate=1e-3,
        last=0.1,
        tower_rate=1.0,
        warm=1,
    ),
    Phase(
        name="answers",
        steps=4,
        recipe=RECIPE,
        layers=8,
        rate=1e-3,
        last=0.1,
        tower_rate=0.125,
        warm=1,
        parts=2,
        naming=NAMED,
        pointing=0.5,
    ),
)


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, no making process and no evaluation on 200 whole images."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(train, "held_out", lambda *_: dict.fromkeys(TASKS, 0.0))
    monkeypatch.setattr(batches, "stream", _stream)
    yield
    torch.set_num_threads(threads)


def _stream(
    make: Callable[[tuple[int, ...], Recipe], batches.Batch],
    key: tuple[int, ...],
    first: int,
    last: int,
    recipe: Recipe,
) -> Iterator[batches.Batch]:
    for step in range(first, last):
        yield make((*key, step), recipe)


def test_batches_depend_on_their_key_alone() -> None:
    recipe = Recipe(3, 8, 1, 3, 5)
    one, two = (batches.training_batch((1, 0, 2, 7), recipe) for _ in range(2))
    other = batches.training_batch((1, 0, 2, 8), recipe)
    for field in dataclasses.fields(batches.Batch):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name))
    assert not np.array_equal(one.pixels, other.pixels)


def test_the_making_process_gives_the_batches_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    recipe = Recipe(1, 8, 1, 3, 2)
    made = [
        batch.ids.tolist()
        for batch in batches.stream(batches.training_batch, (1, 0, 0), 2, 5, recipe)
    ]
    own = [batches.training_batch((1, 0, 0, step), recipe).ids.tolist() for step in range(2, 5)]
    assert made == own


def test_targets_are_the_answers_and_the_listing_comes_last() -> None:
    batch = batches.training_batch((1, 2, 3), Recipe(4, 12, 2, 4, 6))
    for ids, targets, tasks in zip(batch.ids, batch.targets, batch.tasks, strict=True):
        scored = np.flatnonzero(targets >= 0)
        assert (ids[scored + 1] == targets[scored]).all()
        assert (tasks[targets == END] == -1).all()
        listed = np.flatnonzero(tasks == batches.LISTED)
        assert listed.min() > np.flatnonzero((tasks >= 0) & (tasks < batches.LISTED)).max()
        words = word_ids(LISTING)
        at = listed.min() - len(words)
        assert ids[at : at + len(words)].tolist() == words


def test_every_turn_is_learnt_as_it_is_asked_alone() -> None:
    """The logits of many turns on one image are those of the stock model for each turn's prompt,
    with the image or, for a blind turn, without."""
    model = architecture.build_tiny()
    batch = batches.training_batch((1, 4), Recipe(2, 24, 3, 8, 4, blind=1))
    assert [(batch.turns[i][batch.sighted[i] == 0] == 0).all() for i in (0, 1)] == [True, True]
    assert (batch.sighted == 0).any(1).all()
    seen: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        train.choose_attention(model, 24)
        objectives.answer_outcome(model, batch, CPU)
        hook.remove()
        model.set_attn_implementation("sdpa")
        expected = [
            logits
            for image in range(2)
            for turn in range(batch.turns[image].max() + 1)
            for logits in _alone(model, batch, image, turn)
        ]
    torch.testing.assert_close(seen[0], torch.stack(expected), atol=1e-3, rtol=0)


def _alone(
    model: LlavaForConditionalGeneration, batch: batches.Batch, image: int, turn: int
) -> torch.Tensor:
    """Logits at the scored places of one turn, by the model's own forward."""
    own = batch.turns[image] == turn
    sighted = bool(batch.sighted[image][own].all())
    start = [BEGIN, USER] + [IMAGE] * 576 * sighted
    pixels = objectives.pixel_values(batch, CPU)[image : image + 1] if sighted else None
    ids = torch.tensor([[*start, *batch.ids[image][own].tolist()]])
    logits = model(input_ids=ids, pixel_values=pixels).logits[0, len(start) :]
    return logits[torch.from_numpy(batch.targets[image][own] >= 0)]


def test_heads_are_to_look_at_what_a_question_is_about() -> None:
    """Looking at nothing else costs nothing, looking everywhere the logarithm of the share."""
    batch = batches.training_batch((1, 8), Recipe(3, 24, 3, 8, 6, (150,), blind=1))
    (images, length), shown = batch.ids.shape, batch.shown.shape[1]
    queries, shares = torch.zeros(images, length, shown), []
    names = {*SHAPES, *PLURALS, *COLOURS}
    for image, at in zip(*np.nonzero(batch.turns >= 0), strict=True):
        own = (batch.turns[image] == batch.turns[image, at]).nonzero()[0]
        words = [WORDS[i] for i in batch.ids[image, own]]
        asked_about = names & {*words[: words.index("ASSISTANT:")]}
        last = max((words.index(name) for name in asked_about), default=length)
        now = at - own[0]
        if not batch.sighted[image, at] or not last <= now <= words.index("ASSISTANT:"):
            continue
        labels = batch.labels[image, batch.shown[image]]
        wanted = np.array([row[0] > 0 and _is_named(row, asked_about) for row in labels])
        if wanted.any():
            queries[image, at] = 100 * torch.from_numpy(wanted)
            shares.append(wanted.sum() / (2 + shown + now + 1))
    keys = torch.zeros(images, 2 + shown + length, shown)
    keys[:, 2 : 2 + shown] = torch.eye(shown)
    turns, sighted = torch.from_numpy(batch.turns), torch.from_numpy(batch.sighted)
    mask = turns_mask(turns, sighted, 2, shown)[:, 0]
    right, blank = Look(queries, keys, mask, 1.0), Look(0 * queries, keys, mask, 1.0)
    assert pointing_loss([right], batch, CPU).item() == pytest.approx(0, abs=1e-4)
    expected = -np.log(shares).mean()
    assert pointing_loss([blank], batch, CPU).item() == pytest.approx(expected, rel=1e-4)


def _is_named(label: np.ndarray, words: set[str]) -> bool:
    shape, colour = SHAPES[label[0] - 1], COLOURS[label[1] - 1]
    plural = PLURALS[label[0] - 1]
    named_shape = not words & {*SHAPES, *PLURALS} or bool(words & {shape, plural})
    return named_shape and (not words & {*COLOURS} or colour in words)


def test_a_few_steps_reduce_the_loss_of_tower_and_answers() -> None:
    trainee = train.prepare(0)
    for phase in PHASES:
        batch = batches.training_batch((1, 0), phase.recipe)
        losses = []
        train.choose_attention(trainee.model, phase.recipe.grid)
        with train.depth(trainee.model, phase.layers or 32):
            optimiser = train.optimiser_of(trainee, phase)
            for _ in range(8):
                learn = partial(train.part_outcome, trainee, phase, CPU)
                step = train.train_step(learn, optimiser, phase, 1, batch)
                losses.append(step.loss.item())
        assert losses[-1] < 0.9 * losses[0]


def test_layers_that_join_begin_as_the_identity() -> None:
    model = train.prepare(0).model.eval()
    hidden = torch.randn(1, 5, 160)
    outputs = []
    for layers in (8, 16, 32):
        with train.depth(model, layers), torch.no_grad():
            decoder = model.model.language_model
            assert len(decoder.layers) == layers
            outputs.append(decoder(inputs_embeds=hidden, use_cache=False).last_hidden_state)
    assert len(model.model.language_model.layers) == 32
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0], outputs[2])


class _StoppedError(Exception):
    pass


def _stop_at(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step, left = train.train_step, [calls]

    def stopping(*arguments: object) -> object:
        if not left[0]:
            raise _StoppedError
        left[0] -= 1
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "train_step", stopping)


def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train.train(tmp_path / "whole", PHASES, save_every=2)
    with monkeypatch.context() as patch:
        _stop_at(6, patch)  # within the second phase, one step after a save
        with pytest.raises(_StoppedError):
            train.train(tmp_path / "halved", PHASES, save_every=2)
    place = checkpoints.load_place(tmp_path / "halved")
    assert (place.phase, place.step) == (1, 2)
    resumed = train.train(tmp_path / "halved", PHASES, resume=True, save_every=2)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    lines = [json.loads(x) for x in (tmp_path / "halved" / "log.jsonl").read_text().splitlines()]
    assert [x["event"] for x in lines] == ["start", "resume", "held-out"]
    exported = AutoModelForImageTextToText.from_pretrained(tmp_path / "halved" / "export")
    name = "model.language_model.layers.4.mlp.down_proj.weight"
    assert torch.equal(exported.state_dict()[name], whole.state_dict()[name].bfloat16())


def test_a_run_is_not_overwritten_and_nothing_is_resumed_from_nowhere(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no state"):
        train.train(tmp_path, PHASES, resume=True)
    (tmp_path / train.LOG_FILE).touch()
    with pytest.raises(BadInput, match="holds a run already"):
        train.train(tmp_path, PHASES)


def test_a_run_goes_on_in_its_own_phases_only(tmp_path: Path) -> None:
    trainee = train.prepare(0)
    checkpoints.save_state(tmp_path, Place(0, 1, "tower answers"), trainee, None)
    with pytest.raises(BadInput, match="a run of tower answers, which tower does not resume"):
        train.train(tmp_path, PHASES[:1], resume=True)


def test_held_out_scenes_are_like_the_phases() -> None:
    window, whole = (
        next(batches.validation_batches(2, 2, kind)) for kind in (PHASES[1].recipe, WHOLE)
    )
    assert window.pixels.shape[1:3] == (56, 56)
    assert whole.pixels.shape[1:3] == (168, 168)
    assert (window.corners <= 16).all()
    assert (whole.corners == 0).all()


def test_part_of_an_image_shows_every_object() -> None:
    batch = batches.training_batch((1, 5), Recipe(3, 24, 3, 8, 2, (150,)))
    assert batch.shown.shape == (3, 150)
    assert (np.diff(batch.shown) > 0).all()
    for shown, labels in zip(batch.shown, batch.labels, strict=True):
        assert set(np.flatnonzero(labels[:, 0])) <= set(shown)
        assert (labels[shown, 0] == 0).any()


def test_patches_that_are_left_out_are_as_if_pruned() -> None:
    model = architecture.build_tiny()
    batch = batches.training_batch((1, 6), Recipe(1, 24, 3, 8, 1))
    own = batch.turns[0] == 0
    ids = torch.tensor([[BEGIN, USER] + [IMAGE] * 576 + batch.ids[0][own].tolist()])
    pixels = objectives.pixel_values(batch, CPU)
    with torch.no_grad():
        with attach(model, get_method("uniform"), Budget(200)) as trace:
            logits = model(input_ids=ids, pixel_values=pixels).logits[0, -own.sum() :]
        kept = trace.prefills[0].selections[0].cut.anchors.numpy()
        seen: list[torch.Tensor] = []
        hook = model.lm_head.register_forward_hook(lambda *call: seen.append(call[2]))
        train.choose_attention(model, 24)
        objectives.answer_outcome(model, dataclasses.replace(batch, shown=kept), CPU)
        hook.remove()
    expected = logits[torch.from_numpy(batch.targets[0][own] >= 0)]
    torch.testing.assert_close(seen[0][: len(expected)], expected, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_three_minutes_of_training_beat_the_majority_on_two_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    torch.set_num_threads(2)
    train.train(tmp_path, REDUCED)
    *_, last = (tmp_path / "log.jsonl").read_text().splitlines()
    right = json.loads(last)["right"]
    better = [
        task for task in TASKS if right[task] >= benchmark.majority(f"embedded_{task}") + 0.15
    ]
    assert len(better) >= 2, right
