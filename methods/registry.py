"""The methods there are, by name."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isabstract
from pathlib import Path
from types import ModuleType

from methods.interface import Method, PruningError, nearest

_METHODS: dict[str, type[Method]] = {}
_SHIPPED = (
    "baselines.unpruned",
    "methods.vitcop",
    "baselines.fastv",
    "baselines.sparsevlm",
    "baselines.visionzip",
    "baselines.pyramiddrop",
    "baselines.hiprune",
    "baselines.v2drop",
    "baselines.dart",
    "baselines.prumerge",
    "baselines.feather",
    "baselines.fitprune",
    "baselines.vscan",
    "baselines.random",
    "baselines.uniform",
    "baselines.pooling",
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
    """All registered methods by name: those shipped in the order above, whoever imported them."""
    for module in _SHIPPED:
        import_module(module)
    shipped = [module.rpartition(".")[2] for module in _SHIPPED]
    return {name: _METHODS[name] for name in dict.fromkeys([*shipped, *_METHODS])}


def get_method(name: str, **settings: object) -> Method:
    """The method `name` with these settings.

    Raises PruningError for an unknown name or setting, with the nearest match, and for a value
    that the method refuses.
    """
    known = methods()
    if name not in known:
        raise PruningError(f"unknown method {name!r}{nearest(name, known)}")
    return _with_settings(name, known[name], settings)


def load_method(file: Path, name: str, **settings: object) -> Method:
    """The method class `name` of a Python file of the user's own, with these settings.

    Raises PruningError for a file that is not there or does not import, a class that is not there
    or no method, and as `get_method` does.
    """
    module = _module_of(file)
    classes = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    }
    if name not in classes:
        hint = nearest(name, classes) if classes else "; it has no subclass of methods.Method"
        raise PruningError(f"{file} has no method {name!r}{hint}")
    if not hasattr(classes[name], "label"):
        classes[name].label = name
    return _with_settings(name, classes[name], settings)


def _module_of(file: Path) -> ModuleType:
    """The file as a module, imported once for its contents."""
    if not file.is_file():
        raise PruningError(f"there is no file {file}")
    name = f"user_method_{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PruningError(f"{file} is no Python file")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises is the user's to mend
        del sys.modules[name]
        raise PruningError(f"{file} does not import: {type(error).__name__}: {error}") from error
    return module


def _with_settings(name: str, method: type[Method], settings: Mapping[str, object]) -> Method:
    if isabstract(method):
        raise PruningError(f"{name} has no method solve(budget, sizes)")
    allowed = {f.name: f for f in fields(method)}
    for setting in settings:
        if setting not in allowed:
            hint = nearest(setting, allowed) if allowed else "; it has no settings"
            raise PruningError(f"{name} has no setting {setting!r}{hint}")
    return method(**{k: _typed(name, allowed[k], v) for k, v in settings.items()})


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
