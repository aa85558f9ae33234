"""The methods there are, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from importlib import import_module

from methods.interface import Method, PruningError, nearest

_METHODS: dict[str, type[Method]] = {}
_SHIPPED = (
    "baselines.unpruned",
    "methods.vitcop",
    "baselines.fastv",
    "baselines.sparsevlm",
    "baselines.visionzip",
    "baselines.pyramiddrop",
    "baselines.random",
    "baselines.uniform",
)


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: make the method known under `name`. Raises PruningError if it is taken."""

    def add(method: type[Method]) -> type[Method]:
        if name in _METHODS and _METHODS[name].__qualname__ != method.__qualname__:
            raise PruningError(f"a method named {name!r} is registered already")
        method.name = name
        _METHODS[name] = method
        return method

    return add


def methods() -> dict[str, type[Method]]:
    """All registered methods by name, in the order of the tables."""
    for module in _SHIPPED:
        import_module(module)
    return dict(_METHODS)


def get_method(name: str, **settings: object) -> Method:
    """The method `name` with these settings.

    Raises PruningError for an unknown name or setting, with the nearest match, and for a value
    that the method refuses.
    """
    known = methods()
    if name not in known:
        raise PruningError(f"unknown method {name!r}{nearest(name, known)}")
    allowed = {f.name: f for f in fields(known[name])}
    for setting in settings:
        if setting not in allowed:
            hint = nearest(setting, allowed) if allowed else "; it has no settings"
            raise PruningError(f"{name} has no setting {setting!r}{hint}")
    return known[name](**{k: _typed(name, allowed[k], v) for k, v in settings.items()})


def _typed(method: str, setting: Field, value: object) -> object:
    """A value from the command line is text: read it as the field's declared type."""
    if not isinstance(value, str) or "str" in str(setting.type):
        return value
    kinds = str(setting.type)
    readers: dict[str, Callable[[str], object]] = {
        "bool": lambda text: {"true": True, "false": False}[text.lower()],
        "int": int,
        "float": float,
    }
    if value.lower() == "none" and "None" in kinds:
        return None
    for kind, reader in readers.items():
        if kind in kinds:
            try:
                return reader(value)
            except (ValueError, KeyError):
                break
    default = "" if setting.default is MISSING else f", such as {setting.default!r}"
    raise PruningError(f"{method}: {setting.name} is {kinds}{default}, not {value!r}")
