"""Generation settings as lmms-eval's tasks write them, turned into arguments of `generate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NEW_TOKENS = 1024
"""lmms-eval's own models generate this many where a task sets no bound."""
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")
_OURS = ("until", "do_sample", *_SAMPLING)


def generate_arguments(generation: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments for `generate`, and the strings at which its text is cut.

    Greedy unless the task asks for sampling at a temperature above 0. Settings that `generate`
    does not know belong to other models (`image_aspect_ratio`) and are left out.
    """
    from transformers import GenerationConfig

    known = set(vars(GenerationConfig())) - set(_OURS)
    arguments = {"max_new_tokens": NEW_TOKENS}
    arguments |= {k: v for k, v in generation.items() if k in known and v is not None}
    temperature = generation.get("temperature")
    wanted = generation.get("do_sample", bool(temperature))
    if wanted and temperature != 0:
        sampling = {k: generation[k] for k in _SAMPLING if generation.get(k) is not None}
        return {**arguments, "do_sample": True, **sampling}, _until(generation)
    return {**arguments, "do_sample": False}, _until(generation)


def _until(generation: Mapping[str, Any]) -> tuple[str, ...]:
    until = generation.get("until") or ()
    return (until,) if isinstance(until, str) else tuple(until)


def cut_at(text: str, until: Sequence[str]) -> str:
    """`text` up to the first of the strings in it, without white space around it.

    White space goes first: a blank line before an answer does not make it empty.
    """
    text = text.strip()
    for end in until:
        if end:
            text = text.split(end, 1)[0]
    return text.strip()
