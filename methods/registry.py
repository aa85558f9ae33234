"""The methods there are, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, fields
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isabstract
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from methods.errors import CAUGHT, PruningError, nearest, told
from methods.method import Method
from methods.reads import are_reads
from methods.user_code import PREFIX, digest_of, importing, new_name, version

_METHODS: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: make the method known under `name`. Raises PruningError if it is taken.

    A method of a user's own file is known by its file, and replaces none of that name.
    """

    def add(method: type[Method]) -> type[Method]:
        method.name = name
        if method.__module__.startswith(PREFIX):
            return method
        if name in _METHODS and _origin(_METHODS[name]) != _origin(method):
            raise PruningError(f"a method named {name!r} is registered already")
        _METHODS[name] = method
        return method

    return add


def _origin(method: type[Method]) -> tuple[str, str]:
    return method.__module__, method.__qualname__


def methods() -> dict[str, type[Method]]:
    """All registered methods by name, whoever imported them.

    Those shipped come first: unpruned, ViTCoP, the papers' from the oldest on, then controls. One
    is shipped by lying in `baselines/`.
    """
    files = iter_modules(import_module("baselines").__path__, "baselines.")
    modules = ("methods.vitcop", *(file.name for file in files))
    for module in modules:
        import_module(module)
    shipped = sorted((n for n in _METHODS if _METHODS[n].__module__ in modules), key=_rank)
    return {name: _METHODS[name] for name in dict.fromkeys([*shipped, *_METHODS])}


def _rank(name: str) -> tuple[bool, bool, bool, str, str]:
    """Links to arXiv are in the order of time."""
    link = _METHODS[name].link
    return name != "unpruned", name != "vitcop", not link, link, name


def get_method(name: str, /, **settings: object) -> Method:
    """The method `name` with these settings.

    Raises PruningError for an unknown name or setting, with the nearest match, and for a value
    that the method refuses.
    """
    known = methods()
    if name not in known:
        raise PruningError(f"unknown method {name!r}{nearest(name, known)}")
    return _with_settings(name, known[name], settings)


def load_method(file: Path, name: str, digest: str = "", /, **settings: object) -> Method:
    """The method class `name` of a Python file of the user's own, with these settings.

    The file as it is now, or as it was when `file_digest` gave this digest. Raises PruningError,
    which names the file, for one that is not there or does not import, for a class that is not
    there or no method, and as `get_method` does.
    """
    module = _module_of(file, digest)
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
    method = classes[name]
    if not hasattr(method, "label"):
        method.label = name
    if "name" not in vars(method):
        method.name = name
    try:
        return _with_settings(name, method, settings)
    except PruningError as error:
        raise PruningError(f"{file}: {error}") from error


def check_method(method: object) -> None:
    """Raises PruningError for what cannot be attached: plans are kept by method and its settings,
    and records hold them.
    """
    if not isinstance(method, Method):
        raise PruningError(f"a method is an instance, such as get_method('fastv'), not {method!r}")
    try:
        hash(method)
        asdict(method)
    except CAUGHT as error:
        raise PruningError(
            f"{type(method).__name__} has a setting that is no plain value, such as a number, a "
            f"string or a tuple: {told(error)}"
        ) from error


def file_digest(file: Path) -> str:
    """Hex SHA-256 of a user's file and of the modules of the user's that it imports.

    Raises PruningError where it is not there or does not import.
    """
    return digest_of(_module_of(file))


def _module_of(file: Path, digest: str = "") -> ModuleType:
    """The file as a module, imported once for its contents and those of what it imports."""
    if known := version(file, digest):
        return known
    if not file.is_file():
        raise PruningError(f"there is no file {file}")
    try:
        file.read_bytes()
    except OSError as error:
        raise PruningError(f"{file} cannot be read: {error.strerror}") from error
    name = new_name()
    spec = spec_from_file_location(name, file.absolute())
    if spec is None or spec.loader is None:
        raise PruningError(f"{file} is no Python file")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with importing(file, name):
            spec.loader.exec_module(module)
    except CAUGHT as error:
        sys.modules.pop(name, None)
        raise PruningError(f"{file} does not import: {told(error)}") from error
    return module


def _with_settings(name: str, method: type[Method], settings: Mapping[str, object]) -> Method:
    _check_class(name, method)
    allowed = {f.name: f for f in fields(method) if f.init}
    for setting in settings:
        if setting not in allowed:
            hint = nearest(setting, allowed) if allowed else "; it has no settings"
            raise PruningError(f"{name} has no setting {setting!r}{hint}")
    for setting, own in allowed.items():
        if setting not in settings and own.default is own.default_factory is MISSING:
            raise PruningError(f"{name} needs its setting {setting}: {name}:{setting}=VALUE")
    given = {k: _typed(name, allowed[k], v) for k, v in settings.items()}
    try:
        built = method(**given)
        reads = built.tower_reads
    except PruningError:
        raise
    except CAUGHT as error:
        raise PruningError(f"{name} cannot be made: {told(error)}") from error
    if not isinstance(reads, tuple) or not are_reads(reads):
        raise PruningError(f"{name}: tower_reads is a tuple of Read, not {reads!r}")
    check_method(built)
    return built


def _check_class(name: str, method: type[Method]) -> None:
    """Raises PruningError for a class that does not say what a method has to."""
    if isabstract(method):
        raise PruningError(f"{name} has no method solve(budget, sizes)")
    if "__dataclass_params__" not in vars(method):
        raise PruningError(f"{name} is no dataclass: write @dataclass(frozen=True) above its class")
    reserved = {*dir(Method), *Method.__dataclass_fields__}
    for own in fields(method):
        if own.name in reserved:
            raise PruningError(
                f"{name}: a setting cannot be called {own.name}, which every method has; "
                "annotate it as ClassVar if it is no setting"
            )
    for text in ("name", "label", "venue", "link", "cuts"):
        if not isinstance(getattr(method, text, None), str):
            raise PruningError(f"{name}: {text} is a string, not {getattr(method, text, None)!r}")


def _typed(method: str, setting: Field, value: object) -> object:
    """A value from the command line is text: read it as the field's declared type."""
    kinds = setting.type.__name__ if isinstance(setting.type, type) else str(setting.type)
    if not isinstance(value, str) or "str" in kinds:
        return value
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
