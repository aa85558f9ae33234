"""How quantities are written: one rounding for every form of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import floor, isnan, log10

from harness.analysis.stats import Estimate
from harness.records.groups import answers_of
from harness.records.identity import ASKED, Identity
from harness.records.record import Record

_FLOPS = ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def number(value: float, decimals: int = 1, sign: bool = False) -> str:
    """Fixed decimals; nothing for NaN, and no minus before a rounded zero."""
    if isnan(value):
        return ""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{decimals}f}"


def three_digits(value: float) -> str:
    """Three significant digits without an exponent: 0.0123, 1.23, 123, 1234; nothing for NaN."""
    if isnan(value) or value == 0:
        return number(value, 0)
    magnitude = floor(log10(abs(float(f"{value:.3g}"))))
    return number(value, max(2 - magnitude, 0))


def estimate(value: Estimate, decimals: int = 1, sign: bool = False) -> tuple[str, str, str]:
    return (
        number(value.value, decimals, sign),
        number(value.low, decimals, sign),
        number(value.high, decimals, sign),
    )


def flops_unit(values: Iterable[float]) -> tuple[float, str]:
    """The unit in which the largest value has digits before the point."""
    return _unit(values, _FLOPS)


def bytes_unit(values: Iterable[float]) -> tuple[float, str]:
    return _unit(values, _BYTES)


def in_bytes(value: float) -> str:
    """`12.6 GiB`."""
    size, unit = bytes_unit([value])
    return f"{three_digits(value / size)} {unit}"


def _unit(values: Iterable[float], units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    largest = max(values, default=0)
    return next((unit for unit in units if largest >= unit[0]), units[-1])


def origin(records: Sequence[Record]) -> str:
    """The line below a table: what these records, of one configuration, were measured on, and
    which questions of their tasks were left out.
    """
    identity = records[0].identity
    sources = [record.provenance for record in records]
    devices = sorted({str(s.device_name or s.cpu or "") for s in sources} - {""})
    asked = {key: getattr(identity, key) for key in ASKED}
    parts = [
        f"model {identity.model} {identity.model_digest[:10]}",
        identity.dtype,
        identity.attention,
        *(f"{key.replace('_', ' ')} {value[:10]}" for key, value in asked.items() if value),
        frames(records),
        f"batch {identity.batch_size}",
        " / ".join([identity.device, *devices]),
        ", ".join(f"{name} {version}" for name, version in identity.versions.items()),
        f"commit {commits(records)}",
        *dict.fromkeys(record.left_out for record in answers_of(records)),
    ]
    return " · ".join(part for part in parts if part)


def frames(records: Sequence[Record]) -> str:
    """`8 frames`: how many of each video were shown; nothing where no task shows videos."""
    known = {r.identity.frames for r in answers_of(records) if r.identity.frames}
    return ", ".join(f"{number} frames" for number in sorted(known))


def commits(records: Sequence[Record]) -> str:
    """`f0efc60a65 (dirty)`: of what they were measured with."""
    sources = [record.provenance for record in records]
    found = sorted({str(source.commit or "unknown")[:10] for source in sources})
    return ", ".join(found) + " (dirty)" * any(source.dirty for source in sources)


def questions(counts: Mapping[str, int], identity: Identity) -> str:
    """`300 questions a task`, or each task's number where they differ; how they were drawn."""
    drawn = "" if identity.samples_per_task is None else f", seed {identity.sample}"
    what = "sampled questions" if drawn else "questions"
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} {what} a task{drawn}"
    each = ", ".join(f"{task} {count}" for task, count in counts.items())
    return f"{what}: {each or 'none'}{drawn}"
