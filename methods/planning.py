"""What the methods' solvers share: integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

from methods.errors import PruningError, nearest
from methods.sizes import Part, Sizes

SCHEDULES = ("matched", "published")


def one_of(method: str, setting: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises PruningError unless `value` is among `allowed`."""
    if value not in allowed:
        hint = nearest(str(value), allowed)
        raise PruningError(f"{method}: unknown {setting} {value!r}{hint}")


def half_up(value: Fraction) -> int:
    """To the nearest integer, halves up."""
    return floor(value + Fraction(1, 2))


def due(total: int, entered: Sequence[int], count: int, layers: int) -> int:
    """How many of `count` tokens have to go, so that all that go on into each later layer keep the
    sum over so many `layers` at `total`; `entered` went into the first of them.
    """
    later = layers - len(entered)
    return count - ceil(Fraction(total - sum(entered), later)) if later else 0


def scaled_layers(printed: Iterable[int], layers: int) -> tuple[int, ...]:
    """Layer indices of a 32-layer paper at another depth: floor(k·L/32), ≥ 1, strictly rising."""
    scaled: list[int] = []
    for layer in printed:
        scaled.append(max(layer * layers // 32, 1, scaled[-1] + 1 if scaled else 1))
    return tuple(scaled)


def split(total: int, weights: list[int]) -> list[int]:
    """`total` in whole parts proportional to `weights`, each within 1 of its share."""
    bounds, before = [0], 0
    for weight in weights:
        before += weight
        bounds.append(half_up(Fraction(total * before, sum(weights))))
    return [end - start for start, end in pairwise(bounds)]


def shares(tokens: int, of: list[int]) -> tuple[int, ...] | None:
    """`tokens` in proportion to what there is `of` each; None where one would get none, or more."""
    counts = split(max(tokens, 0), of)
    if any(not 1 <= n <= most for n, most in zip(counts, of, strict=True)):
        return None
    return tuple(counts)


def part_shares(tokens: int, parts: Sequence[Part]) -> tuple[int, ...] | None:
    """The same of some parts' tokens."""
    return shares(tokens, [part.tokens for part in parts])


def check_images(method: str, sizes: Sizes) -> None:
    """Raises PruningError where a segment is a video, and not a frame of one."""
    if any(s.t > 1 or (s.kind == "video" and s.newlines) for s in sizes.segments):
        raise PruningError(f"{method} is not defined here for videos")


def check_whole(method: str, sizes: Sizes) -> None:
    """Raises PruningError unless every segment is patches of one view and nothing else."""
    if any(s.crops or s.resampled or s.tokens != s.h * s.w for s in sizes.segments):
        raise PruningError(
            f"{method} is not defined here for pictures of crops, videos and newline tokens"
        )


def check_not_resampled(method: str, sizes: Sizes) -> None:
    """Raises PruningError where a picture's tokens are not those of its patches."""
    if any(segment.resampled for segment in sizes.segments):
        raise PruningError(f"{method} is not defined here for pictures that are resampled")


def nearest_count(
    count: Callable[[Fraction], int], wanted: Fraction, low: Fraction, high: Fraction
) -> Fraction:
    """The factor in low … high whose `count`, rising with it in steps, is nearest to `wanted`."""
    for _ in range(40):
        middle = ((low + high) / 2).limit_denominator(2**40)
        low, high = (middle, high) if count(middle) < wanted else (low, middle)
    return min((high, low), key=lambda factor: abs(count(factor) - wanted))


def layers_of(
    method: str,
    schedule: str,
    printed: tuple[int, ...],
    explicit: tuple[int | None, ...],
    layers: int,
) -> tuple[int, ...]:
    """Layers that a method cuts before: as printed for 32 layers, scaled, or set explicitly.

    Raises PruningError where they do not rise strictly within 1 … layers − 1.
    """
    default = printed if schedule == "published" else scaled_layers(printed, layers)
    chosen = tuple(d if e is None else e for d, e in zip(default, explicit, strict=True))
    if list(chosen) != sorted(set(chosen)) or chosen[0] < 1 or chosen[-1] >= layers:
        named = ", ".join(map(str, chosen))
        raise PruningError(f"{method}: layers {named} do not rise within 1 to {layers - 1}")
    return chosen
