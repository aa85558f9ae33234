"""How long a video unpruned takes in the time that a method takes for a longer one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import ceil

from harness.analysis.speed import rounds
from harness.analysis.stats import NOTHING, Estimate, round_ratio
from harness.records import cost
from harness.records.ledger import LedgerRow, tower_is_known
from harness.records.record import EfficiencyRecord
from harness.records.timed import TimedCell


def equal_frames(ours: TimedCell, theirs: TimedCell, record: EfficiencyRecord) -> Estimate:
    """The most frames with which unpruned has its first token no later than `ours` with all.

    Both times are measured in the same rounds; how much sooner unpruned has it with fewer frames
    follows from the FLOPs of tower, projector and prefill, without those that causal kernels skip.
    NaN for images, and where it is not known what the tower costs.
    """
    frames, row = record.identity.frames, theirs.ledger[0]
    if frames is None or not tower_is_known(theirs.ledger, record.shape):
        return NOTHING
    flops = _flops(row, frames, record.shape, record.identity.attention != "eager")
    ratio = round_ratio(_first_token(ours), _first_token(theirs))

    def reached(share: float) -> int:
        counts = range(1, ceil(frames * max(share, 1)) + 1)
        return bisect_right(counts, share * flops(frames), key=flops)

    return Estimate(reached(ratio.value), reached(ratio.low), reached(ratio.high))


def _first_token(cell: TimedCell) -> list[float]:
    """Seconds until it, in each round."""
    phases = (rounds(cell, phase) for phase in ("vision_tower", "projector", "prefill"))
    return [sum(parts) for parts in zip(*phases, strict=True)]


def _flops(row: LedgerRow, frames: int, shape: cost.Shape, causal: bool) -> Callable[[int], float]:
    """Until the first token, unpruned, of so many frames; `row` is of a video of `frames`."""
    visual, layers = row.visual or 0, len(row.entering)
    projector = cost.projector_flops(shape, row.projected) if row.projected else 0
    encoding = (row.tower_flops or 0) + projector

    def until_first_token(count: int) -> float:
        entering = [visual * count // frames] * layers
        skipped = cost.causally_skipped_flops(shape, entering, row.text) if causal else 0
        prefill = cost.prefill_flops(shape, entering, row.text) - skipped
        return encoding * count / frames + prefill

    return until_first_token
