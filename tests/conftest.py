"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import Prompts, make_prompts, small_llava
from transformers import LlavaForConditionalGeneration

# models this small lose more to threads than they gain
torch.set_num_threads(1)

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    return make_prompts()


@pytest.fixture(scope="session")
def model(prompts: Prompts) -> LlavaForConditionalGeneration:
    model = small_llava()
    model(**prompts.batch(0))  # transformers installs hooks of its own in the first forward
    return model


@pytest.fixture(scope="session")
def published() -> dict[str, np.ndarray]:
    """What the published code selects and outputs on `tiny-llava`, by RUN/NAME."""
    with np.load(FIXTURES / "published.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="session")
def more_published() -> dict[str, np.ndarray]:
    """The same of further methods on the same input, by RUN/NAME."""
    found: dict[str, np.ndarray] = {}
    for file in sorted((FIXTURES / "more").glob("*.npz")):
        with np.load(file) as stored:
            found |= {key.removeprefix("0/"): value for key, value in stored.items()}
    return found


@pytest.fixture(scope="session")
def published_more() -> Callable[[str], dict[str, np.ndarray]]:
    """The same of further methods, by method: CASE/RUN/NAME."""

    def of(method: str) -> dict[str, np.ndarray]:
        with np.load(FIXTURES / "more" / f"{method}.npz") as stored:
            return dict(stored)

    return of


@pytest.fixture(scope="session", params=["sdpa", "eager"])
def tiny_llava(request: pytest.FixtureRequest) -> LlavaForConditionalGeneration:
    model = LlavaForConditionalGeneration.from_pretrained(
        FIXTURES / "tiny-llava", attn_implementation=request.param
    ).eval()
    model.generation_config.eos_token_id = None
    return model
