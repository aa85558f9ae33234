"""A sample whose counts or logits are wrong fails its cell at once, by name and reason."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from math import nan

import pytest
import torch
from of_images import OF_ONE_IMAGE
from PIL import Image

from baselines.fastv import FastV
from harness.accuracy.answers import Answerer, Question, SampleError
from harness.accuracy.instrument import Accuracy
from harness.embedded import benchmark
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell
from methods import Budget, Selection, get_method, registry

TASK = "embedded_count"
BUDGET, WHOLE = Budget(64), Budget(fraction=1.0)
BUDGETS = {"tome": Budget(192), "fitprune": Budget(96)}  # which cannot meet 64 here


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny", "cpu")


@dataclass(frozen=True)
class Idle(FastV):
    """Promises FastV's tokens and cuts nothing."""

    def solve(self, budget, sizes):
        plan = super().solve(budget, sizes)
        return replace(plan, decoder=tuple(replace(s, select=_nothing) for s in plan.decoder))


@dataclass(frozen=True)
class Generous(FastV):
    """Keeps to a plan for 10 tokens a layer more than were asked for."""

    def solve(self, budget, sizes):
        return super().solve(budget + 10, sizes)


def _nothing(view) -> Selection:
    return Selection()


def question(number: int, image: bool = True) -> Question:
    item = benchmark.items(TASK)[number]
    picture = [Image.fromarray(benchmark.image(item.image_id))] if image else []
    prompt = f"USER: {'<image>' if image else ''} {item.question} ASSISTANT:"
    return Question(f"{TASK}/{number}", lambda: (prompt, picture))


def answers(loaded: LoadedModel, method, *questions: Question, **generation):
    asked = questions or (question(0), question(1))
    budget = WHOLE if method.name == "unpruned" else BUDGETS.get(method.name, BUDGET)
    return Answerer(loaded, method, budget).answer(asked, {"max_new_tokens": 2, **generation})


def with_nan(loaded: LoadedModel, layer: int) -> LoadedModel:
    """The model with one weight of a decoder layer's last projection that is no number."""
    model = deepcopy(loaded.model)
    model.model.language_model.layers[layer].mlp.down_proj.weight.data[3, 5] = nan
    return replace(loaded, model=model)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (Idle, f"^{TASK}/0: 576 visual tokens entered layer 2, planned were"),
        (Generous, f"^{TASK}/0: 74.4 visual tokens entered a layer on average, requested were 64"),
    ],
)
def test_counts_that_break_the_promise_are_no_answer(loaded, method, reason, beams) -> None:
    assert len(answers(loaded, FastV(), num_beams=beams)) == 2
    with pytest.raises(SampleError, match=reason):
        answers(loaded, method(), num_beams=beams)


def test_a_prompt_without_an_image_breaks_no_promise(loaded) -> None:
    whole, none = answers(loaded, FastV(), question(0), question(1, image=False))
    assert set(none.ledger["entering"]) == {0} != set(whole.ledger["entering"])


def test_a_cell_ends_with_its_first_sample(loaded, monkeypatch) -> None:
    monkeypatch.setitem(registry._METHODS, "idle", Idle)
    asked: list[int] = []
    runner = Accuracy(loaded, [TASK], limit=5)
    answer = Answerer.answer
    monkeypatch.setattr(Answerer, "answer", lambda *a: (asked.append(1), answer(*a))[1])
    with pytest.raises(SampleError, match=rf"^{TASK}/\d: 576 visual tokens entered layer 2"):
        runner.run(Cell.parse("idle@64"), TASK, partial(pytest.fail, "a score was told"))
    assert len(asked) == 1


@pytest.mark.parametrize("name", OF_ONE_IMAGE)
def test_logits_that_are_no_numbers_fail_every_method(loaded, name) -> None:
    spoilt = with_nan(loaded, layer=-1)
    with pytest.raises(SampleError, match=f"{TASK}/0: the logits are not finite in float32$"):
        answers(spoilt, get_method(name))
    answers(loaded, get_method(name))


def test_the_layer_from_which_nothing_is_a_number_is_named(loaded) -> None:
    layers = len(loaded.model.model.language_model.layers)
    with pytest.raises(SampleError, match=f"nor are keys and values from layer {layers - 1} on"):
        answers(with_nan(loaded, layer=layers - 2), get_method("unpruned"))


def test_a_later_token_without_a_finite_logit_is_seen(loaded) -> None:
    seen: list[int] = []

    def spoil(head, args, logits):
        seen.append(logits.shape[1])
        return logits * nan if len(seen) == 2 else logits

    handle = loaded.model.lm_head.register_forward_hook(spoil)
    try:
        with pytest.raises(SampleError, match="the logits are not finite"):
            answers(loaded, get_method("unpruned"))
    finally:
        handle.remove()


def test_words_that_a_task_rules_out_are_not_recorded(loaded) -> None:
    vocabulary = loaded.model.config.get_text_config().vocab_size
    allowed = list(range(20))

    def rule_out(head, args, logits):
        return logits.masked_fill(torch.arange(vocabulary) >= len(allowed), -torch.inf)

    handle = loaded.model.lm_head.register_forward_hook(rule_out)
    try:
        first = answers(loaded, get_method("unpruned"))[0].first_token
    finally:
        handle.remove()
    assert sorted(first["ids"]) == allowed
    assert len(first["logprobs"]) == len(allowed)
