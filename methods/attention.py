"""Attention weights of a few query rows, computed from what a layer's kernel was given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_WEIGHTS = 2**26
"""Attention weights that are held at a time: 256 MiB."""


@dataclass(frozen=True)
class QueriesKeys:
    """q [b, H, L, d] and k [b, H_kv, L, d] after RoPE, as the kernel got them, and v."""

    queries: Tensor
    keys: Tensor
    scaling: float
    values: Tensor | None = None

    def to(self, device: torch.device) -> QueriesKeys:
        return QueriesKeys(self.queries.to(device), self.keys.to(device), self.scaling)

    def received(self) -> Tensor:
        """What each key gets of all queries on average: float32 [b, H, L]; a part of them at a
        time, since the weights of an image of high resolution, or of many crops, fill a GPU.
        """
        batch, heads, length = self.queries.shape[:3]
        rows = torch.arange(length, device=self.queries.device).expand(batch, -1)
        parts = rows.split(max(1, MOST_WEIGHTS // (batch * heads * length)), 1)
        return torch.stack([self.attention(part, None).sum(2) for part in parts]).sum(0) / length

    def attention(self, rows: Tensor, allowed: Tensor | None) -> Tensor:
        """Softmax weights of query rows: float32 [b, H, r, L].

        `rows` int64 [b, r]; `allowed` bool [b, r, L], None where every row sees every key.
        """
        heads, d = self.queries.shape[1], self.queries.shape[3]
        index = rows[:, None, :, None].expand(-1, heads, -1, d)
        q = self.queries.gather(2, index).float()
        k = self.keys.float().repeat_interleave(heads // self.keys.shape[1], 1)
        scores = q @ k.transpose(-1, -2) * self.scaling
        if allowed is not None:
            scores = scores.masked_fill(~allowed[:, None], torch.finfo(scores.dtype).min)
        return scores.softmax(-1)
