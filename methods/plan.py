"""What a method promises for a sample: stages, their cuts, and the tokens that enter each layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from itertools import chain

from torch import Tensor

from methods.reads import AnyRead, Read, View, are_reads
from methods.sizes import Sizes


@dataclass(frozen=True)
class Cut:
    """Which rows come out of a stage, and what each is made of.

    Output row i = (input row `anchors[i]` where `add_anchor[i]`) + mean of the input rows j with
    `groups[j] == i`, at the position of its anchor. `anchors` int64 [b, out], in the order in which
    the rows shall follow one another; `groups` int64 [b, in], -1 for a row that is dropped;
    `add_anchor` bool [b, out]. Where groups overlap `weights` float [b, out, in] stand for them,
    but not inside the tower: sum of weights[i, j] · row j in the place of the mean. Neither: each
    output row is its anchor as it stands. `counts` int64 [b], inside the tower and of stages by
    data alone: only so many of the first output rows are rows.
    """

    anchors: Tensor
    groups: Tensor | None = None
    add_anchor: Tensor | None = None
    weights: Tensor | None = None
    counts: Tensor | None = None

    @property
    def merges(self) -> bool:
        """Whether rows come out that are not their anchors as they stand."""
        return self.groups is not None or self.weights is not None

    def to_first(self, count: int) -> Cut:
        """The same with its first `count` output rows only, into which no other row may go."""
        add = None if self.add_anchor is None else self.add_anchor[:, :count]
        return replace(self, anchors=self.anchors[:, :count], add_anchor=add, counts=None)


@dataclass(frozen=True)
class Selection:
    """A stage's result: the cut (None keeps every row) and what later stages shall see.

    `visual` tensors [b, out, ...] run over the rows that come out of the cut and follow them
    through later ones; `text` tensors [b, t, ...] run over the text rows.
    """

    cut: Cut | None = None
    visual: Mapping[str, Tensor] = field(default_factory=dict)
    text: Mapping[str, Tensor] = field(default_factory=dict)


class Positions(StrEnum):
    """Position ids after a cut."""

    ORIGINAL = "original"  # kept rows have the ids they had
    CONTIGUOUS = "contiguous"  # 0, 1, 2, … over the tokens that are left
    ENTERED_INDEX = "entered_index"  # index among the tokens of the sequence that the cut saw


class NewTokens(StrEnum):
    """Position of the first generated token; the following ones count up from it."""

    PROMPT = "prompt"  # length of the unpruned prompt, in every layer
    ENTERED = "entered"  # length of the sequence that entered layer 0, in every layer
    CACHE = "cache"  # each layer's own cache length


Select = Callable[[View], Selection]


@dataclass(frozen=True)
class TowerStage:
    """Inside the vision tower, for one segment: what leaves layer `layer`, counted from 0; with
    `before_mlp` what that layer's attention hands to its MLP.

    Rows are those that the layer works on, CLS first where there is one. A cut keeps CLS first.
    """

    name: str
    layer: int
    reads: tuple[Read, ...]
    select: Select
    before_mlp: bool = False


@dataclass(frozen=True)
class EncoderStage:
    """Between the vision tower and the projector, for so many `segments` that follow one another.

    Rows are those of the tower's features, CLS first where there is one, tower image after tower
    image. Without a cut all patches go on, with what `Selection.visual` leaves of them for stages
    in the decoder.
    """

    name: str
    reads: tuple[AnyRead, ...]
    select: Select
    segments: int = 1


@dataclass(frozen=True)
class DecoderStage:
    """On the hidden states that enter decoder layer `layer`; with `before_mlp` on those that its
    attention hands to its MLP: the layer's cache keeps all that entered it. Such stages are for
    methods that are `inside_layers`.

    `by_data`: data decide how many rows stay (`Cut.counts`). It is asked while more tokens would
    enter the later layers than the plan has promised together, of one sample at a time.
    """

    name: str
    layer: int
    reads: tuple[Read, ...]
    select: Select
    positions: Positions = Positions.ORIGINAL
    before_mlp: bool = False
    by_data: bool = False

    @property
    def first(self) -> int:
        """The first layer that what it leaves enters."""
        return self.layer + self.before_mlp

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return f"before {'the MLP of ' * self.before_mlp}layer {self.layer}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A method's promise for one sample: visual tokens entering each decoder layer, and the stages.

    Where it is `by_data`, all layers' tokens together are the promise, and `entering` one way to
    keep it.
    `tower` has the stages of each segment; each segment is that of one stage of `encoder`, if any.
    `parameters` are the solved ones, for records.
    """

    entering: tuple[int, ...]
    tower: tuple[tuple[TowerStage, ...], ...] = ()
    encoder: tuple[EncoderStage, ...] = ()
    decoder: tuple[DecoderStage, ...] = ()
    new_tokens: NewTokens = NewTokens.PROMPT
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[TowerStage | EncoderStage | DecoderStage, ...]:
        return *chain(*self.tower), *self.encoder, *self.decoder

    @cached_property
    def by_data(self) -> bool:
        """Whether data decide how many tokens enter a layer."""
        return any(stage.by_data for stage in self.decoder)

    @cached_property
    def into_mlp(self) -> tuple[int, ...]:
        """Visual tokens that enter each layer's MLP."""
        cut = {stage.layer for stage in self.decoder if stage.before_mlp}
        after = (*self.entering[1:], self.entering[-1])
        both = enumerate(zip(self.entering, after, strict=True))
        return tuple(later if i in cut else own for i, (own, later) in both)

    @cached_property
    def mean_entering(self) -> Fraction:
        return Fraction(sum(self.entering), len(self.entering))


def plan_fault(plan: object, sizes: Sizes) -> str | None:
    """What makes it no plan for a sample of these sizes; None if nothing does."""
    if not isinstance(plan, Plan):
        return f"it is a {type(plan).__name__}, and neither a Plan nor None"
    return _entering_fault(plan.entering, sizes) or _stages_fault(plan, sizes)


def _entering_fault(entering: object, sizes: Sizes) -> str | None:
    if not isinstance(entering, tuple | list) or any(type(n) is not int for n in entering):
        return f"entering is a tuple of ints, not {repr(entering)[:60]}"
    if len(entering) != sizes.layers:
        return f"entering has {len(entering)} numbers for {sizes.layers} layers"
    for before, tokens in zip([sizes.tokens, *entering], entering, strict=False):
        if not 1 <= tokens <= sizes.tokens:
            return f"entering is 1 to {sizes.tokens} tokens a layer, not {tokens}"
        if tokens > before:
            return f"entering rises from {before} to {tokens}, and a cut only takes away"
    return None


def _stages_fault(plan: Plan, sizes: Sizes) -> str | None:
    for part, kind in (("encoder", EncoderStage), ("decoder", DecoderStage)):
        stages = getattr(plan, part)
        if not isinstance(stages, tuple) or not all(isinstance(s, kind) for s in stages):
            return f"{part} is a tuple of {kind.__name__}, not {repr(stages)[:60]}"
        for stage in stages:
            if not callable(stage.select) or not are_reads(stage.reads):
                return f"stage {stage.name} has no select to call, or reads what is no Read"
            if Read.NEXT_LAST_ATTENTION in stage.reads and getattr(stage, "before_mlp", False):
                return f"stage {stage.name} reads attention of a layer that has run"
    staged = sum(stage.segments for stage in plan.encoder)
    if plan.encoder and staged != len(sizes.segments):
        return f"encoder has {staged} stages for {len(sizes.segments)} images"
    if not isinstance(plan.new_tokens, NewTokens):
        return f"new_tokens is one of NewTokens, not {plan.new_tokens!r}"
    try:
        json.dumps(dict(plan.parameters), allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"parameters cannot be written to a record: {error}"
    return None
