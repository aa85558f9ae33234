"""What the encoder gave for images and videos of whole batches, for methods that look no closer.

For families whose images have no fixed number of tokens: there `sharing` cannot part a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

from methods.method import Method

Keys = tuple[tuple[str, ...], ...]
"""Of a batch, the images and videos of each question."""
_UNUSED = ("last_hidden_state", "hidden_states", "attentions")
"""What a model that asks its encoder for features takes nothing of."""


class EncodedBatches:
    """Outputs of `get_image_features` and `get_video_features` by batch, at most `max_bytes`.

    One serves one model in one dtype. The first come stay.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.stored_bytes = 0
        self._inputs: dict[Keys, Mapping[str, Tensor]] = {}
        self._outputs: dict[Keys, list[Any]] = {}

    def inputs(self, keys: Keys) -> Mapping[str, Tensor] | None:
        """What the model is given of a batch beside its ids, with pixels that hold nothing; None
        where it has to be encoded.
        """
        return self._inputs.get(keys) if keys in self._outputs else None

    def outputs(self, keys: Keys) -> list[Any] | None:
        """Those of each call, in order; None where they are not kept."""
        return self._outputs.get(keys)

    def put(self, keys: Keys, inputs: Mapping[str, Tensor], outputs: list[Any]) -> None:
        """Keep a batch if there is room."""
        kept = [_used(output) for output in outputs]
        grown = self.stored_bytes + sum(t.numel() * t.element_size() for t in _tensors(kept))
        if keys not in self._outputs and outputs and grown <= self.max_bytes:
            self._outputs[keys], self._inputs[keys] = kept, _hollow(inputs)
            self.stored_bytes = grown

    def clear(self) -> None:
        """Keep none of the batches."""
        self._inputs.clear()
        self._outputs.clear()
        self.stored_bytes = 0


@dataclass
class SharedBatch:
    """The coming prefill's batch: its outputs from the store, or seen as they are made."""

    store: EncodedBatches
    keys: Keys
    made: list[Any] = field(default_factory=list)
    given: int = 0
    within: bool = False

    @staticmethod
    def serves(method: Method) -> bool:
        """Whether the method needs nothing of the encoder but its output."""
        closer = method.tower_reads or method.merged_reads or method.inside_tower
        return not (closer or method.resizes)

    def sharing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A body's `get_image_features` or `get_video_features` that is called once a batch."""

        @wraps(original)
        def get_features(*args: Any, **kwargs: Any) -> Any:
            if self.within:  # some models encode videos as images
                return original(*args, **kwargs)
            known = self.store.outputs(self.keys)
            if known is not None:
                self.given += 1
                return known[self.given - 1]
            self.within = True
            try:
                self.made.append(output := original(*args, **kwargs))
            finally:
                self.within = False
            return output

        return get_features


def _used(output: Any) -> Any:
    if not isinstance(output, ModelOutput):
        return output
    return type(output)(**{name: v for name, v in output.items() if name not in _UNUSED})


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, Mapping):
        yield from _tensors(list(part.values()))
    elif isinstance(part, list | tuple):
        for each in part:
            yield from _tensors(each)


def _hollow(inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Pixels of the same shape without memory: sizes are all that is read of them again."""
    return {
        name: value.new_zeros(()).expand(value.shape)
        if value.dim() > 1 and value.is_floating_point()
        else value
        for name, value in inputs.items()
    }
