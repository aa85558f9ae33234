"""The fixed batch that every cell is timed on, and one run of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.errors import BadInput
from harness.models.load import LoadedModel
from harness.models.placement import free_bytes
from methods import Budget, Method, attach
from methods.adapters import adapter_for
from methods.clock import Clock

GIB = 2**30
_BEFORE_IMAGE = 5
"""Text tokens before the first image, as in LLaVA's prompts; the others follow the last one."""
_KERNELS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True)
class Load:
    """How much is asked at once: samples, images and text tokens of each, tokens of its answer."""

    batch_size: int = 1
    images: int = 1
    prompt_tokens: int = 64
    new_tokens: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Workload:
    """A batch without padding: random images and text tokens, a fixed number of new tokens."""

    loaded: LoadedModel
    inputs: Mapping[str, Tensor]
    load: Load

    @classmethod
    def of(cls, loaded: LoadedModel, load: Load) -> Workload:
        """Everything is drawn from the seed, so two runs with one seed time the same input.

        `input_ids` int64 [batch, prompt + visual tokens]; `pixel_values` [batch · images, 3, side,
        side] in the model's dtype, normal. Raises torch.OutOfMemoryError.
        """
        model, generator = loaded.model, torch.Generator().manual_seed(load.seed)
        vision = model.config.vision_config
        shape = (vision.num_channels, vision.image_size, vision.image_size)
        pixels = [torch.randn(shape, generator=generator) for _ in range(load.images)]
        once = torch.stack(pixels).to(model.device, model.dtype)
        ids = _prompt(loaded, load, generator).to(model.device)
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": once.repeat(load.batch_size, 1, 1, 1),
        }
        return cls(loaded, inputs, load)

    def of_text(self, tokens: int) -> Workload:
        """The batch with `tokens` random text tokens a sample, and no image."""
        generator = torch.Generator().manual_seed(self.load.seed)
        ids = _words(self.loaded, self.load.batch_size, tokens, generator)
        ids = ids.to(self.loaded.model.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return replace(self, inputs=inputs)

    def generate(self, new_tokens: int | None = None) -> Any:
        """Greedy, exactly `new_tokens` (by default the load's), whatever the model answers."""
        length = self.load.new_tokens if new_tokens is None else new_tokens
        with torch.no_grad(), self._kernel_order():
            return self.loaded.model.generate(
                **self.inputs,
                do_sample=False,
                min_new_tokens=length,
                max_new_tokens=length,
                pad_token_id=0,
                return_dict_in_generate=True,
            )

    def attached(self, method: Method, budget: Budget, clock: Clock | None = None) -> Any:
        """Context in which `generate` is pruned; gives the `Trace`."""
        seeds = [self.load.seed + row for row in range(self.load.batch_size)]
        return attach(self.loaded.model, method, budget, seeds=seeds, clock=clock)

    def _kernel_order(self) -> AbstractContextManager[Any]:
        """On a GPU flash comes first; torch's own order differs between its versions."""
        if self.loaded.model.device.type != "cuda":
            return nullcontext()
        return sdpa_kernel(_KERNELS, set_priority=True)


def _prompt(loaded: LoadedModel, load: Load, generator: torch.Generator) -> Tensor:
    """Random text around the image tokens, int64 [batch, length] on the CPU."""
    image = loaded.model.config.image_token_id
    words = _words(loaded, load.batch_size, load.prompt_tokens, generator)
    visual = load.images * adapter_for(loaded.model).shape().image_tokens
    before = min(_BEFORE_IMAGE, load.prompt_tokens - 1)
    images = torch.full((load.batch_size, visual), image)
    return torch.cat([words[:, :before], images, words[:, before:]], 1)


def _words(loaded: LoadedModel, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Random tokens that are not the image's, int64 [batch, tokens] on the CPU."""
    vocabulary = loaded.model.config.get_text_config().vocab_size
    words = torch.randint(vocabulary - 1, (batch, tokens), generator=generator)
    return words + (words >= loaded.model.config.image_token_id)


def check_room(loaded: LoadedModel, load: Load) -> None:
    """Raises BadInput for a batch whose inputs alone are more than the memory that is free."""
    config = loaded.model.config
    vision, text = config.vision_config, config.get_text_config()
    tokens = load.prompt_tokens + load.images * adapter_for(loaded.model).shape().image_tokens
    values = load.images * vision.num_channels * vision.image_size**2 + tokens * text.hidden_size
    needed = load.batch_size * values * loaded.model.dtype.itemsize
    free = free_bytes(loaded.device)
    if needed > free:
        raise BadInput(
            f"the inputs of batch {load.batch_size} take {needed / GIB:.1f} GiB, "
            f"{free / GIB:.1f} GiB are free; allowed: a smaller --batch-size"
        )
