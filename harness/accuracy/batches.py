"""Prompts as one batch: what a family's processor gives for each, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def padded(rows: Sequence[Tensor], value: int = 0) -> Tensor:
    """Rows [length] as one [batch, longest], padded on the left."""
    longest = max(map(len, rows))
    return torch.stack([pad(row, (longest - len(row), 0), value=value) for row in rows])


def together(prompts: Sequence[tuple[Tensor, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """What belongs to the tokens and to the images of all the prompts, by name.

    What has one number a token is padded on the left as the token ids [length] are; all else is
    joined in the order of the prompts, with zeros behind what is shorter in another dimension.
    """
    names = dict.fromkeys(name for _, inputs in prompts for name in inputs)
    return {name: _of_all(name, prompts) for name in names}


def _of_all(name: str, prompts: Sequence[tuple[Tensor, Mapping[str, Tensor]]]) -> Tensor:
    present = [inputs[name] for _, inputs in prompts if name in inputs]
    if all(inputs[name].shape == (1, len(ids)) for ids, inputs in prompts if name in inputs):
        blank = torch.zeros(1, dtype=present[0].dtype)
        rows = [
            inputs[name][0] if name in inputs else blank.expand(len(ids)) for ids, inputs in prompts
        ]
        return padded(rows)
    return torch.cat(_of_one_size(present))


def _of_one_size(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same with zeros at the end of every dimension but the first."""
    sizes = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
    return [
        pad(
            t,
            [
                n
                for want, own in zip(sizes[::-1], t.shape[:0:-1], strict=True)
                for n in (0, want - own)
            ],
        )
        for t in tensors
    ]
