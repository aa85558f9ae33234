"""The stock model with keys forbidden, which a model with those tokens removed has to equal; and
ways to run either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from tiny_families import IMAGE, VIDEO, Inputs
from torch import Tensor

from methods import Budget, Method, attach
from methods.caches import CACHE_ARGUMENT, cache_of
from methods.trace import Prefill, Trace

SHARE = Budget(fraction=0.45)
NEW = 5


def generated(model, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Logits [batch, steps, vocabulary] and tokens [batch, steps] of a greedy generation."""
    with torch.no_grad():
        out = model.generate(
            **inputs,
            **{"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False},
            **{"output_logits": True, "return_dict_in_generate": True},
        )
    return torch.stack(out.logits, 1), out.sequences[:, -NEW:]


def stepped(model, inputs: Inputs, tokens: Tensor) -> Tensor:
    """Logits [batch, steps, vocabulary] of plain forwards: the prompt's, then of given tokens."""
    mask, logits = inputs["attention_mask"], []
    with torch.no_grad():
        out = model(**inputs, use_cache=True)
        logits.append(out.logits[:, -1])
        for token in tokens[:, : NEW - 1].split(1, 1):
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            options = {CACHE_ARGUMENT: getattr(out, CACHE_ARGUMENT), "use_cache": True}
            if (deltas := getattr(model.model, "rope_deltas", None)) is not None:
                # where positions have three axes the stock model cannot go on by the mask alone
                step = mask.cumsum(1)[:, -1:] - 1 + deltas
                options["position_ids"] = step.expand(3, -1, -1)
            out = model(input_ids=token, attention_mask=mask, **options)
            logits.append(out.logits[:, -1])
    return torch.stack(logits, 1)


def pruned(run: Callable[..., object], method: Method, model, *given, budget=SHARE):
    """What `run` gives while the method is attached, and the trace of it."""
    with attach(model, method, budget) as trace:
        return run(model, *given), trace


def left_padded_rows(rows: list[Tensor]) -> Inputs:
    """A batch of prompts that are given as embeddings [length, D]."""
    longest = max(map(len, rows))
    missing = [longest - len(row) for row in rows]
    mask = [[0] * n + [1] * (longest - n) for n in missing]
    hidden = [torch.cat([row[:1].expand(n, -1), row]) for n, row in zip(missing, rows, strict=True)]
    return {"inputs_embeds": torch.stack(hidden), "attention_mask": torch.tensor(mask)}


def visual_places(inputs: Inputs) -> Tensor:
    """bool [B, L]: where images and videos stand."""
    return torch.isin(inputs["input_ids"], torch.tensor([IMAGE, VIDEO]))


def kept_by(prefill: Prefill, inputs: Inputs) -> Mapping[int, Tensor]:
    """Prompt places that are left from each cut on: bool [B, L] by layer."""
    visual, valid = visual_places(inputs), inputs["attention_mask"].bool()
    places = [row.nonzero()[:, 0] for row in visual]
    now, kept = valid.clone(), {}
    for selection in sorted(prefill.selections, key=lambda s: s.layer):
        for row, anchors in zip(selection.rows, selection.cut.anchors, strict=True):
            places[row] = places[row][anchors]
            now[row] = valid[row] & ~visual[row]
            now[row, places[row]] = True
        kept[selection.layer] = now.clone()
    return kept


def holds_its_promise(trace: Trace) -> None:
    for prefill in trace.prefills:
        assert torch.equal(prefill.entering, prefill.planned)
        assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])


@contextmanager
def forbidding(model: Any, kept: Mapping[int, Tensor]) -> Iterator[None]:
    """From each layer in `kept` on, only keys of prompt places where its bool [B, L] is True are
    seen, and by everyone; each row sees itself. Nothing is removed.
    """

    def before(i: int) -> Callable[..., Any]:
        def forbid(layer: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            of = [first for first in kept if first <= i]
            if not of:
                return None
            mask = _forbidden(kept[max(of)], i, args[0], cache_of(kwargs), kwargs["attention_mask"])
            return args, {**kwargs, "attention_mask": mask}

        return forbid

    layers = model.get_decoder().layers
    handles = [
        layer.register_forward_pre_hook(before(i), with_kwargs=True)
        for i, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forbidden(kept: Tensor, i: int, hidden: Tensor, cache: Any, mask: Tensor | None) -> Tensor:
    batch, new = hidden.shape[:2]
    past = 0
    if cache is not None and i < len(cache.layers):
        past = cache.layers[i].get_seq_length()
    place = torch.arange(past + new)
    if mask is None:
        mask = (place <= place[past:, None]).expand(batch, 1, -1, -1)
    generated = torch.ones(batch, len(place) - kept.shape[1], dtype=torch.bool)
    seen = torch.cat([kept, generated], 1)[:, None, None]
    return mask & (seen | (place == place[past:, None]))
