"""Where things sit inside Hugging Face models: one file a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from methods.adapters.llava import LlavaAdapter
from methods.interface import PruningError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ADAPTERS: dict[str, type[LlavaAdapter]] = {"LlavaForConditionalGeneration": LlavaAdapter}


def supported() -> tuple[str, ...]:
    """Names of the model classes that can be pruned."""
    return tuple(_ADAPTERS)


def adapter_for(model: PreTrainedModel) -> LlavaAdapter:
    """The adapter of a model. Raises PruningError for a class that has none."""
    name = type(model).__name__
    if name not in _ADAPTERS:
        raise PruningError(f"model class {name} is not supported{nearest(name, _ADAPTERS)}")
    return _ADAPTERS[name](model)
