"""The fixed batch that every cell is timed on, and one run of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.efficiency.pictures import drawn, encoded_tokens
from harness.errors import BadInput
from harness.models.load import LoadedModel
from harness.models.placement import free_bytes
from harness.models.shapes import shape_of
from methods import Budget, Method, attach
from methods.adapters import adapter_for
from methods.clock import Clock

GIB = 2**30
_BEFORE_IMAGE = 5
"""Text tokens before the first image, as in LLaVA's prompts; the others follow the last one. Where
a model is given a video in parts, a further one stands before each but the first.
"""
_QUESTION = "what is in the picture ?"
"""For methods that read it otherwise than as the prompt's tokens, which are drawn."""
_MARKS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
_KERNELS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True)
class Load:
    """How much is asked at once: samples, images and text tokens of each, tokens of its answer.

    `frames`: of a video that each has in place of its images, None for images.
    """

    batch_size: int = 1
    images: int = 1
    prompt_tokens: int = 64
    new_tokens: int = 16
    seed: int = 0
    frames: int | None = None

    def identity(self) -> dict[str, Any]:
        """What a record's identity holds of it: images, or frames."""
        beside = "frames" if self.frames is None else "images"
        return {name: value for name, value in asdict(self).items() if name != beside}


@dataclass(frozen=True)
class Workload:
    """A batch without padding: random images, or a video, and text tokens, a fixed number of new
    tokens.
    """

    loaded: LoadedModel
    inputs: Mapping[str, Tensor]
    load: Load

    @property
    def visual(self) -> int:
        """Visual tokens of a sample, unpruned."""
        kinds = adapter_for(self.loaded.model).kinds(self.inputs["input_ids"][0])
        return int((kinds > 0).sum())

    @classmethod
    def of(cls, loaded: LoadedModel, load: Load) -> Workload:
        """Everything is drawn from the seed, so two runs with one seed time the same input.

        `input_ids` int64 [batch, prompt + visual tokens]; of images, or of a video, what the family
        takes, pixels normal in the model's dtype, the same in each sample. Raises
        torch.OutOfMemoryError, and BadInput as `drawn` does.
        """
        model, generator = loaded.model, torch.Generator().manual_seed(load.seed)
        once = {
            name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
            for name, value in drawn(model, load.images, load.frames, generator).items()
        }
        known = load.images * shape_of(model).image_tokens
        tokens = [known] if known else encoded_tokens(model, once)
        ids = _prompt(loaded, load, tokens, generator).to(model.device)
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            **{
                name: value.repeat(load.batch_size, *[1] * (value.dim() - 1))
                for name, value in once.items()
            },
        }
        if adapter_for(model).position_axes > 1:
            inputs["mm_token_type_ids"] = adapter_for(model).kinds(ids).long()
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
        asked = [_QUESTION] * self.load.batch_size
        return attach(self.loaded.model, method, budget, seeds=seeds, clock=clock, questions=asked)

    def _kernel_order(self) -> AbstractContextManager[Any]:
        """On a GPU flash comes first; torch's own order differs between its versions."""
        if self.loaded.model.device.type != "cuda":
            return nullcontext()
        return sdpa_kernel(_KERNELS, set_priority=True)


def _prompt(
    loaded: LoadedModel, load: Load, visual: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Random text around the tokens of images, int64 [batch, length] on the CPU; a word before each
    part of a video after the first.
    """
    config = loaded.model.config
    runs = visual if load.frames else [sum(visual)]
    video = getattr(config, "video_token_id", None) if load.frames else None
    mark = config.image_token_id if video is None else video
    words = _words(loaded, load.batch_size, load.prompt_tokens + len(runs) - 1, generator)
    before = min(_BEFORE_IMAGE, load.prompt_tokens - 1)
    texts = words.tensor_split([before + i for i in range(len(runs))], 1)
    shown = [torch.full((load.batch_size, tokens), mark) for tokens in runs]
    pairs = zip(texts, shown, strict=False)
    return torch.cat([*(part for pair in pairs for part in pair), texts[-1]], 1)


def _words(loaded: LoadedModel, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Random tokens that stand for no image or video, int64 [batch, tokens] on the CPU."""
    config = loaded.model.config
    marks = sorted({getattr(config, name) for name in _MARKS if getattr(config, name, None)})
    vocabulary = config.get_text_config().vocab_size
    words = torch.randint(vocabulary - len(marks), (batch, tokens), generator=generator)
    for mark in marks:
        words += words >= mark
    return words


def check_room(loaded: LoadedModel, load: Load) -> None:
    """Raises BadInput for a batch whose inputs alone are more than the memory that is free, and for
    a video where the model takes none.
    """
    model, text = loaded.model, loaded.model.config.get_text_config()
    frames, count = (None, load.images) if load.frames is None else (2, load.frames / 2)
    some = drawn(model, 1, frames, torch.Generator())
    tokens = load.prompt_tokens + load.images * shape_of(model).image_tokens
    values = count * sum(v.numel() for v in some.values()) + tokens * text.hidden_size
    needed = load.batch_size * values * loaded.model.dtype.itemsize
    free = free_bytes(loaded.device)
    if needed > free:
        raise BadInput(
            f"the inputs of batch {load.batch_size} take {needed / GIB:.1f} GiB, "
            f"{free / GIB:.1f} GiB are free; allowed: a smaller --batch-size"
        )
