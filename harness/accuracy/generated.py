"""What a model generated for a batch of prompts: held to what was promised, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from harness.accuracy.decoding import cut_at
from harness.accuracy.prompts import Prompt
from harness.models.load import LoadedModel
from harness.models.shapes import shape_of
from harness.records.counted import broken_promises, ledgers_of
from harness.records.grids import grid_bodies
from harness.records.selections import selections_of
from methods import Budget, Method
from methods.trace import Prefill

MOST_LIKELY = 32


@dataclass(frozen=True)
class Answer:
    """An answer and what was measured on the way to it.

    `first_token`: ids and natural log-probabilities of the most likely first tokens, best first;
    `ledger`: visual tokens entering each layer, KV rows, planned tokens, and text tokens; images,
    where the budget is that of each of several; `grids`: where its visual tokens lie, where images
    are of any size.
    """

    text: str
    new_tokens: int
    images: tuple[str, ...]
    first_token: dict[str, list]
    ledger: dict[str, Any]
    selections: list[dict[str, Any]]
    parameters: dict[str, Any]
    grids: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Generated:
    """`out`: what `generate` returned, with its logits; `prefill`: what was counted meanwhile."""

    loaded: LoadedModel
    method: Method
    prompts: Sequence[Prompt]
    out: Any
    prefill: Prefill

    @property
    def copies(self) -> int:
        """Of each prompt: beam search runs it several times."""
        return len(self.prefill.plans) // len(self.prompts)

    @property
    def resized(self) -> list[int]:
        """Tokens of each copy's pictures as they were, where they were made smaller."""
        return [p.visual for p in self.prompts for _ in range(self.copies) if self.method.resizes]

    def faults(self, budget: Budget) -> list[str | None]:
        """Of each prompt, why its answer must not be scored; None where it may."""
        promises = broken_promises(self.prefill, self.method, budget, self.resized)
        # NaN and infinity pass through a maximum
        largest = torch.stack([step.amax(-1) for step in self.out.logits], 1).tolist()
        return [
            promises[row] or (None if all(map(isfinite, largest[row])) else self._not_finite(row))
            for row in self._rows
        ]

    @property
    def _rows(self) -> range:
        """The first copy of each prompt."""
        return range(0, len(self.prefill.plans), self.copies)

    def _not_finite(self, row: int) -> str:
        where = _first_not_finite(self.out.past_key_values, row)
        return f"the logits are not finite in {self.loaded.dtype}{where}"

    def answers(self, until: Sequence[str]) -> list[Answer]:
        """One a prompt; its text ends before the first of the strings `until`."""
        tokenizer = self.loaded.processor.tokenizer
        new = self.out.sequences[:, max(len(p.input_ids) for p in self.prompts) :].cpu()
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        first = _first_tokens(self.out.logits[0][:: self.copies])
        shape, prefill = shape_of(self.loaded.model), self.prefill
        ledgers = ledgers_of(prefill, shape, self.resized)
        selections = selections_of(prefill)
        return [
            Answer(
                text=cut_at(text, until),
                new_tokens=int((new[i] != tokenizer.pad_token_id).sum()),
                images=self.prompts[i].images,
                first_token=first[i],
                ledger=ledgers[row],
                selections=selections[row],
                parameters=dict(prefill.plans[row].parameters),
                grids=[] if shape.image_tokens else grid_bodies(prefill.sizes[row]),
            )
            for i, (row, text) in enumerate(zip(self._rows, texts, strict=True))
        ]


def _first_not_finite(cache: Any, row: int) -> str:
    """From which layer on a sample's keys and values are not finite, where the cache tells."""
    for i, layer in enumerate(cache.layers if cache is not None else ()):
        if not (layer.keys[row].isfinite().all() and layer.values[row].isfinite().all()):
            return f", nor are keys and values from layer {i} on"
    return ""


def _first_tokens(logits: Tensor) -> list[dict[str, list]]:
    """Of each row of logits [batch, vocabulary]."""
    top = logits.float().log_softmax(-1).topk(min(MOST_LIKELY, logits.shape[-1]))
    return list(map(_first_token, top.indices.tolist(), top.values.tolist()))


def _first_token(ids: list[int], logprobs: list[float]) -> dict[str, list]:
    """Rounded: kernels and batches differ beyond the fourth decimal, and records stay small.

    Tokens that a task rules out have no probability, so no logarithm that a record could hold.
    """
    possible = sum(map(isfinite, logprobs))
    return {"ids": ids[:possible], "logprobs": [round(value, 4) for value in logprobs[:possible]]}
