"""The shipped model answers alike on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.embedded import benchmark, checkpoint_path
from harness.embedded.training import evaluate

ANSWERS = Path(__file__).parent.parent / "fixtures" / "embedded-answers.json"


@pytest.mark.slow
def test_the_first_hundred_answers_are_the_same_on_every_machine() -> None:
    """In float32, unpruned: twenty questions of each task, as they were answered elsewhere."""
    torch.set_num_threads(2)
    expected = json.loads(ANSWERS.read_text())
    model, processor = evaluate.load(checkpoint_path())
    for task in benchmark.TASKS:
        items = benchmark.items(task)[:20]
        assert evaluate.answer(model, processor, items, 5) == expected[task], task
