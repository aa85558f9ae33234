"""What the vision encoder was called with, and whose images those were.

Since transformers 5.18 `generate` takes sizes and grids away before the model's forward, so they
are seen where every release passes them: at `get_image_features` and `get_video_features`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from inspect import signature
from typing import Any

from torch import Tensor

from methods.errors import PruningError
from methods.family import KINDS, Adapter, EncoderCall
from methods.sizes import Segment

Segments = tuple[Segment, ...]


class EncoderCalls:
    """Keeps the segments of the images, and of the videos, that were encoded last."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.encoded: dict[str, list[Segments]] = {}
        self.within: str | None = None

    def seeing(self, kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """The body's `get_image_features` or `get_video_features`, which is looked at."""
        form = signature(original)

        @wraps(original)
        def get_features(*args: Any, **kwargs: Any) -> Any:
            if self.within is not None:  # some models encode videos as images
                return original(*args, **kwargs)
            self.within = kind
            try:
                output = original(*args, **kwargs)
            finally:
                self.within = None
            call = EncoderCall(kind, form.bind(*args, **kwargs).arguments, output)
            self.encoded[kind] = self.adapter.segments(call)
            return output

        return get_features

    def dealt(self, kinds: Tensor, counts: Sequence[Sequence[int]]) -> list[Segments]:
        """The segments of each sample, in the order of the prompt.

        `kinds` uint8 [B, L] as the adapter gives them, 0 on padding; `counts` of each of `KINDS`:
        its tokens in each sample. Beams and repeated sequences multiply the samples, with the
        images encoded once. Raises PruningError where tokens and images do not come out even.
        """
        waiting, repeats = {}, {}
        for kind, own in zip(KINDS, counts, strict=True):
            if any(own):
                waiting[kind] = deque(self.encoded.get(kind, ()))
                repeats[kind] = _repeats(kind, sum(own), sum(map(_tokens, waiting[kind])))
        times = max(repeats.values(), default=1)
        if any(own != times for own in repeats.values()) or len(kinds) % times:
            raise PruningError("images and videos were given for different numbers of samples")
        if any(all(own) for own in zip(*counts, strict=True)):
            kinds = kinds.cpu()  # in which order both stand in a prompt, only its ids tell
        dealt: list[Segments] = []
        for row in range(0, len(kinds), times):
            runs = self._runs(kinds[row], [own[row] for own in counts])
            found = (_taken(waiting[kind], kind, tokens) for kind, tokens in runs)
            dealt += [tuple(segment for run in found for segment in run)] * times
        return dealt

    def _runs(self, kinds: Tensor, counts: Sequence[int]) -> Iterator[tuple[str, int]]:
        """Kind and tokens of what lies together among a sample's visual tokens."""
        present = [(kind, tokens) for kind, tokens in zip(KINDS, counts, strict=True) if tokens]
        if len(present) < 2:
            yield from present
            return
        found, tokens = kinds[kinds > 0].unique_consecutive(return_counts=True)
        for kind, own in zip(found.tolist(), tokens.tolist(), strict=True):
            yield KINDS[kind - 1], own


def _tokens(segments: Segments) -> int:
    return sum(segment.tokens for segment in segments)


def _repeats(kind: str, needed: int, given: int) -> int:
    """How many times the samples repeat what was encoded."""
    if given == 0 or needed % given:
        raise PruningError(
            f"the prompts hold {needed} {kind} tokens, and {given} were encoded for them while the "
            f"method was attached; {kind}s are given as pixels, with the prompt"
        )
    return needed // given


def _taken(waiting: deque[Segments], kind: str, tokens: int) -> Iterator[Segment]:
    """Segments of the next images or videos, as many as `tokens` are theirs."""
    left = tokens
    while left > 0 and waiting:
        segments = waiting.popleft()
        left -= _tokens(segments)
        yield from segments
    if left:
        raise PruningError(f"a prompt's {tokens} {kind} tokens are no whole {kind}s in their order")
