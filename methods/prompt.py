"""The prompt of a prefill: which tokens are visual, where they stand, and of which images."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.encoder_calls import EncoderCalls, Segments
from methods.errors import PruningError
from methods.family import KINDS, Adapter
from methods.positions import check_axes, parted, spread
from methods.sequence import Run


def read_prompt(
    adapter: Adapter,
    calls: EncoderCalls,
    input_ids: Tensor,
    kwargs: dict,
    added: tuple[Tensor, ...],
) -> tuple[Run, list[Segments]]:
    """The whole prompt int64 [B, L] as a run, and the segments of each sample.

    `kwargs` are the text model's; `added` [B, L, D] as in `Run`. The host waits once. Raises
    PruningError for a prompt whose images do not fit, or that is masked in another way.
    """
    hidden, mask = kwargs["inputs_embeds"], kwargs.get("attention_mask")
    if mask is not None and mask.dim() != 2:
        raise PruningError("pruning needs the attention mask as [batch, length]")
    valid = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask.bool()
    valid = valid.to(hidden.device)
    kinds = adapter.kinds(input_ids).to(hidden.device) * valid
    positions, axes = parted(kwargs.get("position_ids"), valid)
    of_kind = [(kinds == kind).sum(1) for kind, _ in enumerate(KINDS, 1)]
    # the one wait for the device: plans are made of integers
    lengths, on_axes, *counts = torch.stack(
        [valid.sum(1), spread(axes, kinds > 0), *of_kind]
    ).tolist()
    run = Run(
        first=0,
        valid=valid,
        visual=kinds > 0,
        positions=positions,
        lengths=tuple(lengths),
        counts=tuple(map(sum, zip(*counts, strict=True))),
        axes=axes,
        added=added,
    )
    segments = calls.dealt(kinds, counts)
    if adapter.position_axes > 1:
        check_axes(segments, on_axes)
    return run, segments
