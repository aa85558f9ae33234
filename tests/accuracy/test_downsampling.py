"""The control that asks the unpruned model about smaller pictures."""

from __future__ import annotations

from fractions import Fraction

import pytest
from family_checkpoints import SAVED
from PIL import Image

from harness.accuracy.answers import Answerer, Question, SampleError
from harness.accuracy.downsampling import resized, runs_of
from harness.cli.app import main
from harness.models.load import load_model
from harness.models.protocols import OWN
from harness.records.file import read_all
from harness.tables.layouts import tables
from methods import Budget, PruningError, get_method

FOUR = {"max_new_tokens": 2}
QWENS = ("qwen2.5-vl", "qwen3-vl")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in (*QWENS, "llava-next"):
        SAVED[name](folder / name)
    return folder


def asked(loaded, sizes=((60, 40), (64, 64), (25, 60))):
    text = OWN.prompt(loaded.processor, "how many red objects ?", 1)
    pictures = [Image.effect_noise(size, 60).convert("RGB") for size in sizes]
    return [Question(str(i), lambda p=p: (text, [p])) for i, p in enumerate(pictures)]


@pytest.mark.parametrize("name", QWENS)
@pytest.mark.parametrize("budget", [Budget(20), Budget(fraction=0.75)])
def test_no_more_tokens_than_asked_for_enter(checkpoints, name, budget):
    loaded = load_model(str(checkpoints / name), "cpu")
    questions = asked(loaded)
    whole = Answerer(loaded, get_method("unpruned"), Budget(fraction=1.0)).answer(questions, FOUR)
    prompts = {}
    control = Answerer(loaded, get_method("downsample"), budget, prompts=prompts)
    smaller = control.answer(questions, FOUR)
    assert not prompts
    for before, after in zip(whole, smaller, strict=True):
        most = budget.of(before.ledger["entering"][0])
        (entering,) = set(after.ledger["entering"])
        assert most * 3 / 4 <= entering <= most
        assert after.ledger["visual"] == before.ledger["entering"][0]
        assert after.images == before.images
    few = loaded.protocol.encoded(
        loaded.processor, loaded.model, *_read_smaller(questions[1], smaller[1], 8)
    )
    assert (
        int((few[0] == loaded.model.config.image_token_id).sum())
        == smaller[1].ledger["entering"][0]
    )


def _read_smaller(question, answer, side):
    text, (image,) = question.read()
    return text, [resized(image, answer.ledger["entering"][0], side)]


def test_what_its_processor_makes_large_again_is_no_answer(checkpoints):
    """The tiny processor has no image of fewer than 16 tokens, and makes this one 4 × 5."""
    loaded = load_model(str(checkpoints / "qwen2.5-vl"), "cpu")
    control = Answerer(loaded, get_method("downsample"), Budget(7))
    with pytest.raises(SampleError, match=r"20.0 visual tokens entered .* requested were 7"):
        control.answer(asked(loaded)[:1], FOUR)


def test_where_tokens_do_not_follow_from_pixels_it_is_not_defined(checkpoints):
    loaded = load_model(str(checkpoints / "llava-next"), "cpu")
    with pytest.raises(PruningError, match="Downsample is not defined here: this model's images"):
        Answerer(loaded, get_method("downsample"), Budget(20)).answer(asked(loaded), FOUR)


@pytest.mark.parametrize(
    ("size", "tokens", "grid"),
    [((80, 80), 64, (8, 8)), ((80, 80), 63, (7, 8)), ((160, 40), 16, (8, 2)), ((8, 80), 1, (1, 1))],
)
def test_the_grid_is_near_the_pictures_proportions(size, tokens, grid):
    picture = resized(Image.new("RGB", size), tokens, 10)
    assert sorted((picture.width // 10, picture.height // 10)) == sorted(grid)


def test_runs():
    import torch

    assert runs_of(torch.tensor([0, 1, 1, 0, 1]).bool()) == [2, 1]


def test_it_is_a_row_beside_the_methods(checkpoints, tmp_path):
    command = ["compare", "--model", str(checkpoints / "qwen2.5-vl"), "--tasks", "embedded_count"]
    options = ["--methods", "fastv,downsample", "--budgets", "50%", "--limit", "2"]
    output = ["--device", "cpu", "--no-efficiency", "-o", str(tmp_path)]
    assert main([*command, *options, *output]) == 0
    records = list(read_all([tmp_path], pytest.fail))
    (found,) = (r for r in records if r.cell.method.name == "downsample")
    assert found.status == "ok"
    (table,) = tables(records)
    assert "Downsample" in {row[0][0] for row in table.rows}
    assert Fraction(found.ledger[0].entering[0]) <= Fraction(found.ledger[0].visual, 2)
