"""Forms: what a value read from JSON must be like before it is relied on.

A form is a `Leaf`, `[form]` for a list, `(form,)` for one that is not empty, a mapping of forms by
key, or `...` for anything; a key with a question mark may be missing. `form_of` makes them of the
types in `bodies`, so that what is said to be there and what is looked at are one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from reprlib import repr as short
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

MOST = 2**64
"""No number of a record is larger, so that products of several are floats still."""
MOST_COUNT, MOST_ROWS = 10**9, 10**6

Form = Any
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Leaf:
    """A value of one of these types that passes a test."""

    what: str
    types: tuple[type, ...]
    test: Callable[[Any], bool] = lambda value: True

    def holds(self, value: object) -> bool:
        return type(value) in self.types and self.test(value)


def number(what: str, low: float, high: float, *types: type) -> Leaf:
    """Within the bounds, as NaN is not; null where `types` has it."""
    return Leaf(what, types, lambda value: value is None or low <= value <= high)


def words(*allowed: str) -> Leaf:
    return Leaf(f"one of {', '.join(allowed)}", (str,), lambda value: value in allowed)


NONE = type(None)
TEXT, TEXT_OR_NONE = Leaf("text", (str,)), Leaf("text or null", (str, NONE))
MAPPING, LIST = Leaf("a mapping", (dict,)), Leaf("a list", (list,))
LIST_OR_NONE = Leaf("a list or null", (list, NONE))
FULL_LIST = Leaf("a list that is not empty", (list,), bool)
INTEGER = number("a whole number", -MOST, MOST, int)
COUNT = number("a whole number from 0", 0, MOST_COUNT, int)
COUNT_OR_NONE = number("a whole number from 0 or null", 0, MOST_COUNT, int, NONE)
BUDGET = Leaf(
    "a whole number from 0, a share or null",
    (int, str, NONE),
    lambda value: not isinstance(value, int) or 0 <= value <= MOST_COUNT,
)
POSITIVE = number("a whole number from 1", 1, MOST_COUNT, int)
ROWS = number(f"a whole number from 1 to {MOST_ROWS}", 1, MOST_ROWS, int)
ROWS_OR_0 = number(f"a whole number from 0 to {MOST_ROWS}", 0, MOST_ROWS, int)
BOOLEAN = Leaf("true or false", (bool,))
PLACE = number("a row or -1", -1, MOST_ROWS, int)
NUMBER = number("a number", -MOST, MOST, int, float)
NUMBER_OR_NONE = number("a number or null", -MOST, MOST, int, float, NONE)
AMOUNT = number("a number from 0", 0, MOST, int, float)
SECONDS = number("a number of seconds", 0, MOST_COUNT, int, float)
TOOK = number("a number of seconds above 0", 1e-12, 10**9, int, float)
RATE = number("a rate above 0", 1, MOST, int, float)
LOG_PROBABILITY = number("a log-probability or null", -MOST, 1, int, float, NONE)

_OUTER: dict[type, Leaf] = {dict: MAPPING, list: LIST, tuple: FULL_LIST}
_PLAIN: dict[Any, Form] = {str: TEXT, int: INTEGER, str | None: TEXT_OR_NONE, list: LIST, Any: ...}


def form_of(hint: Any) -> Form:
    """The form of a type: of a TypedDict by key, else as `Annotated` says, else by the type.

    A list that is annotated with `FULL_LIST` still has the form of its items.
    """
    if is_typeddict(hint):
        inner = get_type_hints(hint, include_extras=True)
        return {
            name + "?" * (name in hint.__optional_keys__): form_of(inner[name]) for name in inner
        }
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return form_of(arguments[0])
    if origin is Annotated:
        listed, mark = arguments[:2]
        return (form_of(get_args(listed)[0]),) if mark is FULL_LIST else mark
    if origin is list:
        return [form_of(arguments[0])]
    return MAPPING if origin is dict else _PLAIN[hint]


def misfit(values: Sequence[Any], form: Form, name: str = "") -> str | None:
    """What is wrong with the first of these values that has not this form."""
    if form is ...:
        return None
    outer = _OUTER.get(type(form)) or form
    odd = [value for value in values if not outer.holds(value)]
    if odd:
        return f"its {name} is {short(odd[0])}, not {outer.what}"
    if isinstance(form, dict):
        return _mapping_fault(values, form, name)
    if isinstance(form, list | tuple):
        return misfit(list(chain.from_iterable(values)), form[0], name)
    return None


def _mapping_fault(values: Sequence[Values], form: Mapping[str, Form], name: str) -> str | None:
    for key, inner in form.items():
        word = key.removesuffix("?")
        held = [value[word] for value in values if word in value]
        if word == key and len(held) < len(values):
            return f"it lacks {word}" + (f" in its {name}" if name else "")
        if found := misfit(held, inner, f"{name} {word}".strip()):
            return found
    return None
