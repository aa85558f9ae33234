"""Where things sit inside Hugging Face models: one file a family, found by lying in this folder."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from methods.errors import PruningError, nearest
from methods.family import ADAPTERS, REFUSED, Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def supported() -> tuple[str, ...]:
    """Names of the model classes that can be pruned."""
    _look_into_the_folder()
    return tuple(ADAPTERS)


def adapter_for(model: PreTrainedModel) -> Adapter:
    """The adapter of a model. Raises PruningError for a class that has none."""
    name, known = type(model).__name__, supported()
    if name in REFUSED:
        raise PruningError(f"model class {name} cannot be pruned: {REFUSED[name]}")
    if name not in known:
        raise PruningError(f"model class {name} is not supported{nearest(name, known)}")
    return ADAPTERS[name](model)


@cache
def _look_into_the_folder() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
