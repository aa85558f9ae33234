"""The fixed batch that every cell is timed on, and one run of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from harness.embedded import scenes
from harness.models import LoadedModel
from methods import Budget, Method, attach
from methods.adapters import adapter_for
from methods.runtime import Clock

QUESTION = "how many red objects ?"
_FEWEST, _MOST = 3, 8


@dataclass(frozen=True)
class Workload:
    """A batch of drawn scenes with one question, without padding; a fixed number of new tokens."""

    loaded: LoadedModel
    inputs: Mapping[str, Tensor]
    new_tokens: int
    seed: int

    @classmethod
    def of(cls, loaded: LoadedModel, batch_size: int, new_tokens: int, seed: int) -> Workload:
        """Images come from the seed, so two runs with one seed time the same input."""
        content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        text = loaded.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        random = np.random.RandomState(seed)
        images = [_image(random) for _ in range(batch_size)]
        encoded = loaded.processor(text=[text] * batch_size, images=images, return_tensors="pt")
        model = loaded.model
        inputs = {name: tensor.to(model.device) for name, tensor in encoded.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        return cls(loaded, inputs, new_tokens, seed)

    @property
    def text_tokens(self) -> int:
        """Tokens of a prompt that are not visual."""
        visual = adapter_for(self.loaded.model).visual(self.inputs["input_ids"])
        return int((~visual[0]).sum())

    def generate(self, new_tokens: int | None = None) -> Any:
        """Greedy, exactly `new_tokens` (by default the workload's), whatever the model answers."""
        length = self.new_tokens if new_tokens is None else new_tokens
        return self.loaded.model.generate(
            **self.inputs,
            do_sample=False,
            min_new_tokens=length,
            max_new_tokens=length,
            pad_token_id=self.loaded.processor.tokenizer.pad_token_id,
            return_dict_in_generate=True,
        )

    def attached(self, method: Method, budget: Budget, clock: Clock | None = None) -> Any:
        """Context in which `generate` is pruned; gives the `Trace`."""
        seeds = [self.seed + row for row in range(len(self.inputs["input_ids"]))]
        return attach(self.loaded.model, method, budget, seeds=seeds, clock=clock)


def _image(random: np.random.RandomState) -> Image.Image:
    return Image.fromarray(scenes.draw(random, scenes.GRID, _FEWEST, _MOST).pixels)
