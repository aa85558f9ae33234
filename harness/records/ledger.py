"""What a record's ledger says: whether the promise was kept, and what the counted tokens cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from harness.records import cost
from harness.records.share import Share


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Of `samples` that were alike: visual tokens that entered each layer, KV rows after the
    prefill, what the plan promised, text tokens, FLOPs of the selections (0 where a record has
    none). `tower`, where images were cut inside the vision tower: of each of them `[rows into
    attention, rows into MLP]` of every tower layer. `visual`: tokens before any cut, None in old
    records; where the pictures were made smaller instead, of the pictures as they were, and
    `resized` those that are left. `images`: the budget is that of each of so many.
    `tower_flops` and the rows that are `projected` are told where images are of any size. `mlp`:
    visual tokens that entered each layer's MLP, where they are others. `by_data`: data decided how
    many entered each layer, and the plan promised their sum.
    """

    entering: Sequence[int]
    cached: Sequence[int]
    planned: Sequence[int]
    text: int
    samples: int = 1
    selection_flops: float = 0
    tower: Sequence[Sequence[Sequence[int]]] | None = None
    visual: int | None = None
    resized: int | None = None
    images: int = 1
    tower_flops: float | None = None
    projected: int | None = None
    mlp: Sequence[int] | None = None
    by_data: bool = False

    @property
    def mean_entering(self) -> float:
        return sum(self.entering) / len(self.entering)


Ledger = Sequence[LedgerRow]


def ledger_of(bodies: Iterable[Mapping[str, Any]]) -> tuple[LedgerRow, ...]:
    """The rows as records hold them."""
    return tuple(LedgerRow(**{k: v for k, v in row.items() if k in _COLUMNS}) for row in bodies)


_COLUMNS = frozenset(LedgerRow.__slots__)


def broken_promise(
    ledger: Ledger, budget: float | Share | None, published: bool, whole: Collection[int] = ()
) -> str | None:
    """Why these counts must not be printed as the budget's, or None when they hold.

    Every layer of every sample must have been entered by exactly what was planned, or all of them
    together where data decide, and must cache what entered. Unless the schedule is a paper's own
    list (`published`), the mean over layers lies within 1 of the `budget`, of each of its `images`
    or of a share of the sample's own tokens; rows in `whole` had fewer tokens than that and were
    not cut. Pictures made smaller have at most so many.
    """
    if not ledger:
        return "no tokens were counted"
    for index, row in enumerate(ledger):
        reason = _against_plan(row)
        if reason is None and budget is not None and not published:
            reason = _against_request(row, budget, index in whole)
        if reason:
            return reason
    return None


def _against_plan(row: LedgerRow) -> str | None:
    counted, planned, cached = row.entering, row.planned, row.cached
    if not len(counted) == len(planned) == len(cached):
        return f"{len(counted)} layers were counted, {len(planned)} planned, {len(cached)} cached"
    if row.by_data and sum(counted) != sum(planned):
        return f"{sum(counted)} visual tokens entered all layers together, not {sum(planned)}"
    for layer, (entered, promised, kept) in enumerate(zip(counted, planned, cached, strict=True)):
        if entered != promised and not row.by_data:
            return f"{entered} visual tokens entered layer {layer}, planned were {promised}"
        if kept != entered + row.text:
            return f"layer {layer} caches {kept} rows, {entered + row.text} tokens entered it"
    return None


def _against_request(row: LedgerRow, budget: float | Share, whole: bool) -> str | None:
    wanted, asked = Fraction(budget) * row.images, str(budget)
    if row.images > 1:
        asked += f" for each of {row.images} images"
    if isinstance(budget, Share):
        if row.visual is None:
            return f"requested were {budget} of the visual tokens, whose number is not told"
        wanted = budget * row.visual
        asked, whole = f"{budget} of {row.visual}", False
    layers = len(row.entering)
    excess = sum(row.entering) - wanted * layers
    at_most = row.resized is not None
    if excess <= (0 if at_most else layers) and (excess >= -layers or whole or at_most):
        return None
    mean = row.mean_entering
    return f"{mean:.1f} visual tokens entered a layer on average, requested were {asked}"


def mean_entering(ledger: Ledger) -> float:
    """Visual tokens entering a layer, averaged over layers and samples."""
    return _over_samples(ledger, lambda row: row.mean_entering)


def range_entering(ledger: Ledger) -> tuple[float, float]:
    """Visual tokens entering a layer, averaged over layers: of samples the least and the most."""
    means = [row.mean_entering for row in ledger]
    return min(means), max(means)


def mean_cached(ledger: Ledger) -> float:
    """Rows of the KV cache after the prefill, averaged over layers and samples."""
    return _over_samples(ledger, lambda row: sum(row.cached) / len(row.cached))


def mean_prefill_flops(ledger: Ledger, shape: cost.Shape) -> float:
    """FLOPs of the decoder's prefill with all selections, averaged over samples."""
    return _over_samples(
        ledger,
        lambda row: (
            cost.prefill_flops(shape, row.entering, row.text, row.mlp) + row.selection_flops
        ),
    )


def tower_is_known(ledger: Ledger, shape: cost.Shape) -> bool:
    """Whether what vision tower and projector cost follows from a record."""
    told = all(row.tower_flops is not None for row in ledger)
    return "tower_rows" in shape or (told and "tower_matrices" in shape)


def mean_tower_flops(ledger: Ledger, shape: cost.Shape, images: int) -> float:
    """FLOPs of the vision tower for a sample's `images`, averaged over samples."""
    whole = [()] * images
    return _over_samples(
        ledger,
        lambda row: (
            sum(cost.tower_flops(shape, rows) for rows in row.tower or whole)
            if row.tower_flops is None
            else row.tower_flops
        ),
    )


def mean_projected(ledger: Ledger, shape: cost.Shape, images: int) -> float:
    """Rows of a sample's `images` that leave the tower for the projector, averaged over samples."""

    def projected(row: LedgerRow) -> float:
        if row.projected is not None:
            return row.projected
        tokens = shape["image_tokens"]
        if row.tower:
            return sum(tokens - shape["tower_rows"] + rows[-1][1] for rows in row.tower)
        return images * tokens

    return _over_samples(ledger, projected)


def mean_cache_bytes(ledger: Ledger, shape: cost.Shape, dtype: str) -> float:
    """Bytes of the KV cache after the prefill, averaged over samples."""
    return _over_samples(ledger, lambda row: cost.kv_cache_bytes(shape, row.cached, dtype))


def cached_by_layer(ledger: Ledger) -> list[float]:
    """Rows of the KV cache after the prefill, of each layer, averaged over samples."""
    samples = sum(row.samples for row in ledger)
    layers = zip(*(row.cached for row in ledger), strict=True)
    weights = [row.samples for row in ledger]
    return [sum(r * w for r, w in zip(rows, weights, strict=True)) / samples for rows in layers]


def _over_samples(ledger: Ledger, value: Callable[[LedgerRow], float]) -> float:
    samples = sum(row.samples for row in ledger)
    return sum(value(row) * row.samples for row in ledger) / samples
