"""What the JSON of a run of timing holds; see `bodies`."""
# annotations are evaluated at once: which keys may be missing is read from them

from typing import Annotated, Any, NotRequired, TypedDict

from harness.records.bodies import (
    Amount,
    Budget,
    CellBody,
    ConfigurationBody,
    Count,
    CountOrNone,
    LedgerBody,
    Number,
    NumberOrNone,
    Positive,
    ProvenanceBody,
    ShapeBody,
)
from harness.records.form import (
    AMOUNT,
    FULL_LIST,
    MAPPING,
    RATE,
    SECONDS,
    TOOK,
    Form,
    words,
)
from harness.records.phases import ONCE, PHASES, Phase


class GpuBody(TypedDict, total=False):
    """Empty of a CPU."""

    problem: str
    processes: Count
    slowdown_bits: CountOrNone
    utilisation_percent: NumberOrNone
    temperature_celsius: NumberOrNone
    sm_clock_mhz: NumberOrNone
    most_sm_clock_mhz: NumberOrNone


class RunIdentity(ConfigurationBody):
    """Of a run of timing."""

    cells: list[str]
    cell_identities: NotRequired[list[dict[str, Any]]]
    new_tokens: Positive
    repeats: Positive


class RatedIdentity(TypedDict):
    """Of a run that measured its device's rates."""

    images: NotRequired[Positive]
    frames: NotRequired[Positive]
    prompt_tokens: Positive


class RatesBody(TypedDict):
    flops_per_second: Annotated[float, RATE]
    bytes_per_second: Annotated[float, RATE]


class EqualContextBody(TypedDict):
    """Decode steps of the unpruned model after a text prompt of so many rows, by round."""

    rows: Count
    status: str
    reason: str | None
    decode: list[Annotated[list[Annotated[float, SECONDS]], FULL_LIST]]


class TimedOutline(CellBody):
    """Of every cell of a run, whatever came of it."""

    status: str
    budget: Budget
    matched: NotRequired[CountOrNone]


class BatchBody(TypedDict):
    batch: Count


class AtBatchBody(TypedDict):
    """Rounds of whole generations of so many samples at once."""

    batch: Positive
    seconds: Annotated[list[Annotated[float, TOOK]], FULL_LIST]


class SaturationBody(TypedDict):
    """`batches` as they were tried, and rounds of all cells where each is saturated, if it is."""

    gib: Amount
    ended: Annotated[str, words("growth", "memory", "time", "failure")]
    reason: str | None
    batches: list[AtBatchBody]
    saturated: NotRequired[AtBatchBody]


class AttentionBody(TypedDict):
    operators: list[str]
    kernels: list[str]


def _seconds(phase: Phase) -> Form:
    """Of each round."""
    leaf = TOOK if phase.never_0 else SECONDS
    return ((leaf,),) if phase.listed else (leaf,)


RawSeconds = dict[str, list[Any]]
"""By phase, a number or a list a round."""
RAW_SECONDS = {phase.name: _seconds(phase) for phase in PHASES if phase.held == "by all"}
NEWER_SECONDS = {phase.name: _seconds(phase) for phase in PHASES if phase.held == "with rates"}


class MeasuredBody(TypedDict):
    """Of a cell that was timed."""

    parameters: dict[str, Any]
    ledger: Annotated[list[LedgerBody], FULL_LIST]
    raw_seconds: Annotated[RawSeconds, RAW_SECONDS]
    peak_kind: Annotated[str, words("device", "process")]
    peak_bytes: Amount
    kv_cache_bytes: Amount
    prefill_peak_bytes: NotRequired[Number]
    decode_peak_bytes: NotRequired[Number]
    largest_batch: NotRequired[BatchBody]
    saturation: NotRequired[SaturationBody]


class RatedCell(TypedDict):
    """Of a cell that was timed in a run with rates."""

    raw_seconds: Annotated[RawSeconds, NEWER_SECONDS]
    merged_rows: Count
    attention: AttentionBody
    counted_flops: Annotated[dict[str, float], {f"{name}?": AMOUNT for name in ONCE}]


class TimedBody(TimedOutline, MeasuredBody):
    """Without the keys of `MeasuredBody` where nothing was timed."""

    merged_rows: NotRequired[Count]
    attention: NotRequired[AttentionBody]
    counted_flops: NotRequired[dict[str, float]]


class EfficiencyOutline(TypedDict):
    """Of every run of timing."""

    cells: Annotated[list[TimedOutline], FULL_LIST]
    order: list[Any]
    identity: RunIdentity
    provenance: Annotated[ProvenanceBody, MAPPING]
    equal_context: NotRequired[list[EqualContextBody]]


class RatedRun(TypedDict):
    """Of a run that measured its device's rates."""

    rates: RatesBody
    identity: RatedIdentity
    weight_bytes: Amount
    stock_seconds: list[Annotated[float, TOOK]]
    gpu_warm: GpuBody
    gpu_after: GpuBody


class EfficiencyBody(TypedDict):
    """A run of timing; what has no number is not there."""

    cells: list[TimedBody]
    order: list[Any]
    identity: RunIdentity
    provenance: ProvenanceBody
    shape: NotRequired[ShapeBody]
    equal_context: NotRequired[list[EqualContextBody]]
    rates: NotRequired[RatesBody]
    weight_bytes: NotRequired[Amount]
    stock_seconds: NotRequired[list[float]]
    gpu_warm: NotRequired[GpuBody]
    gpu_after: NotRequired[GpuBody]
