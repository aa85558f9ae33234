"""What a method is: a budget and integer sizes in, a plan out; stages that turn views into cuts.

This module knows nothing of models, hooks, caches or position ids. A method is a frozen dataclass
whose fields are its settings. Every tensor that a stage sees or returns has a leading batch
dimension, and every row of one batch has the same counts: the runtime groups samples by `Sizes`,
so counts are plain integers and no selection has to wait for the device.
"""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from traceback import extract_tb
from typing import ClassVar

from torch import Tensor


class PruningError(ValueError):
    """Something the caller can mend; the message is one sentence."""


class MechanismError(PruningError):
    """What pruning is made of did not work with this model or release of transformers."""


class InfeasibleBudgetError(PruningError):
    """No setting of the method lets this many tokens enter a layer.

    `low` and `high` bound the whole budgets that can be met, inclusive; None where there is none.
    """

    def __init__(self, method: str, requested: float, low: int | None, high: int | None) -> None:
        self.low, self.high = low, high
        allowed = "no budget is feasible" if low is None else f"feasible is {low} to {high}"
        super().__init__(f"{method} cannot meet {requested:g} visual tokens a layer: {allowed}")


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The end of a sentence that refuses `word`: the nearest match and all that is allowed."""
    names = sorted(allowed)
    close = get_close_matches(word, names, n=1)
    return f"{f'; did you mean {close[0]!r}?' if close else ';'} allowed: {', '.join(names)}"


CAUGHT = (Exception, SystemExit)
"""What code of the user's own may raise; sys.exit would end the caller without a word."""


_NOT_OF_A_METHOD = (
    *("<", "site-packages", "dist-packages", str(Path(json.__file__).parent.parent)),
    *(str(Path(__file__).parent.parent / folder) for folder in ("methods", "harness")),
)
"""Parts of the paths of libraries, and of what calls methods."""


def told(error: BaseException) -> str:
    """An exception in one line, with its `place`."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place(error)}"


def place(error: BaseException) -> str:
    """File and line that a method's own code had come to; nothing where there is none."""
    frames = extract_tb(error.__traceback__)
    own = [at for at in frames if not any(part in at.filename for part in _NOT_OF_A_METHOD)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


@dataclass(frozen=True)
class Budget:
    """Mean visual tokens entering a decoder layer, per sample, over all its images together.

    Either `tokens`, or `fraction` of the sample's visual tokens in (0, 1].
    """

    tokens: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.fraction is None):
            raise PruningError("a budget is either tokens or a fraction, exactly one of the two")
        value = self.tokens if self.fraction is None else self.fraction
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise PruningError(f"a budget is a positive number, not {value!r}")
        if self.fraction is not None and self.fraction > 1:
            raise PruningError(f"a budget's fraction is at most 1, not {self.fraction:g}")

    def of(self, total: int) -> Fraction:
        """The budget in tokens for a sample with `total` visual tokens, exactly."""
        if self.tokens is not None:
            return Fraction(self.tokens)
        return Fraction(self.fraction or 0).limit_denominator(10**6) * total


@dataclass(frozen=True)
class Segment:
    """One image, crop or video of a sample.

    `t`, `h`, `w` count tower patches, `merge` patches per language-model token, `extra` tokens
    that lie off the grid (newlines); `has_cls` tells whether the tower has a CLS row.
    """

    h: int
    w: int
    t: int = 1
    kind: str = "image"
    merge: int = 1
    has_cls: bool = True
    extra: int = 0

    @property
    def tokens(self) -> int:
        """Visual tokens that the language model gets for it, unpruned."""
        return self.t * self.h * self.w // self.merge + self.extra


@dataclass(frozen=True)
class ModelShape:
    """Integers that costs are computed from; one vision tower row is a patch or CLS."""

    layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    tower_layers: int  # that really run
    tower_width: int
    tower_heads: int
    tower_intermediate: int
    tower_rows: int  # per image
    patch_values: int  # channels · patch height · patch width
    projector_inner: int
    image_tokens: int  # per image


@dataclass(frozen=True)
class Sizes:
    """All that a plan may depend on: decoder layers, the sample's segments, and the place of the
    vision tower's layer whose output is used, counted from 0.
    """

    layers: int
    segments: tuple[Segment, ...]
    feature_layer: int = 22

    @property
    def tokens(self) -> int:
        return sum(segment.tokens for segment in self.segments)


class Read(StrEnum):
    """What a stage must see; nothing else is computed.

    Shapes: b samples (tower: images), v visual rows, t text rows, H heads, d head width,
    D hidden width. Text rows are all tokens that are not visual, in order, and after them once
    more the prompt's last token, whatever it is. In the decoder, keys and attention belong to
    the layer that has just run; inside the tower, to the stage's layer, and v counts all its
    rows, CLS first.
    """

    HIDDEN = "hidden"  # [b, v, D] hidden states (before layer 0: embeddings)
    TEXT_HIDDEN = "text_hidden"  # [b, t, D], with `View.text_after_image`
    PREVIOUS_HIDDEN = "previous_hidden"  # [b, v, D] that entered the layer that has just run
    NORMED_HIDDEN = "normed_hidden"  # [b, v, D] float32, through the model's final norm
    NORMED_TEXT = "normed_text"  # [b, t, D] float32, the same of text rows
    KEYS = "keys"  # [b, H_kv, v, d] after RoPE, float32
    TEXT_KEYS = "text_keys"  # [b, H_kv, t, d] after RoPE, float32
    UNROTATED_KEYS = "unrotated_keys"  # [b, H_kv, v, d] before RoPE, float32
    UNROTATED_QUERY = "unrotated_query"  # [b, H, d] float32: the last prompt token's, before RoPE
    VALUES = "values"  # inside the tower: [b, H, v, d] float32
    LAST_ATTENTION = "last_attention"  # [b, H, v] float32: the last prompt token's row
    TEXT_ATTENTION = "text_attention"  # [b, H, t, v] float32: rows of all text tokens
    VISUAL_ATTENTION = "visual_attention"  # [b, H, v, v] float32: rows of the visual tokens
    NEXT_LAST_ATTENTION = "next_last_attention"  # [b, H, v]: q and k of the layer about to run
    ROTARY = "rotary"  # `View.rotary`
    FEATURES = "features"  # tower: [b, rows, D] of the layer that is used, CLS row first
    TOWER_KEYS = "tower_keys"  # tower: [b, rows, D] output of k_proj, heads side by side
    CLS_QUERY = "cls_query"  # tower: [b, 1, D] output of q_proj; without a CLS row that of all rows
    CLS_ATTENTION = (
        "cls_attention"  # tower: [b, H, patches] float32: the CLS row's, or its stand-in
    )
    RECEIVED_ATTENTION = (
        "received_attention"  # tower: [b, H, patches] float32: mean of all rows, CLS included
    )


@dataclass(frozen=True)
class OfLayer:
    """What `read` shows of another tower layer than the one that is used.

    `layer` is its number from 0, or gives it for a tower of so many layers; not for `FEATURES`.
    """

    read: Read
    layer: int | Callable[[int], int]

    def __str__(self) -> str:
        return f"{self.read} of another layer"


AnyRead = Read | OfLayer
OF_TOWER = (
    *(Read.FEATURES, Read.TOWER_KEYS, Read.CLS_QUERY),
    *(Read.CLS_ATTENTION, Read.RECEIVED_ATTENTION),
)


def are_reads(values: Iterable[object]) -> bool:
    """Whether a stage can read all of these somewhere."""
    return {v.read if isinstance(v, OfLayer) else v for v in values} <= set(Read)


@dataclass(frozen=True)
class TextRows:
    """The text rows of a view, see `Read`.

    `after_image` bool [b, t]: text after the last visual token; False on padding and on the
    repeated last token. `positions` [b, t] and `visual_positions` [b, v] are position ids.
    """

    after_image: Tensor
    positions: Tensor
    visual_positions: Tensor
    inverse_frequencies: Tensor


@dataclass(frozen=True)
class View:
    """What a stage sees of a batch whose rows have equal sizes.

    Only what the stage `reads` is filled. `segments` [b, v] int64 tells each visual row's image,
    `seeds` [b] the seed of each sample; `carry` holds what earlier stages left, see `Selection`.
    Text rows are left-padded to a common t. Inside the tower, where data may decide how many rows
    an image keeps, `valid` bool [b, v] tells rows from the padding after them.
    """

    count: int  # visual rows (between tower and projector: patches)
    segments: Tensor
    seeds: tuple[int, ...] = ()
    carry: Mapping[str, Tensor] = field(default_factory=dict)
    reads: Mapping[AnyRead, Tensor] = field(default_factory=dict)
    text: TextRows | None = None
    valid: Tensor | None = None

    @property
    def text_after_image(self) -> Tensor:
        return self._text.after_image

    @property
    def rotary(self) -> tuple[Tensor, Tensor, Tensor]:
        """Position ids of text [b, t] and visual rows [b, v], and the inverse frequencies [f]."""
        text = self._text
        return text.positions, text.visual_positions, text.inverse_frequencies

    @property
    def _text(self) -> TextRows:
        if self.text is None:
            raise PruningError("a stage has to read text rows or rotary angles to see them")
        return self.text

    def __getitem__(self, read: AnyRead) -> Tensor:
        return self.reads[read]


@dataclass(frozen=True)
class Cut:
    """Which rows come out of a stage, and what each is made of.

    Output row i = (input row `anchors[i]` where `add_anchor[i]`) + mean of the input rows j with
    `groups[j] == i`, at the position of its anchor. `anchors` int64 [b, out], in the order in which
    the rows shall follow one another; `groups` int64 [b, in], -1 for a row that is dropped;
    `add_anchor` bool [b, out]. Where groups overlap `weights` float [b, out, in] stand for them,
    but not inside the tower: sum of weights[i, j] · row j in the place of the mean. Neither: each
    output row is its anchor as it stands. `counts` int64 [b], inside the tower alone: only so many
    of an image's output rows are rows, where data decide it.
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
    """Between the vision tower and the projector, for one segment.

    Rows are those of the tower's features, CLS first where there is one. Without a cut all patches
    go on, with what `Selection.visual` leaves of them for stages in the decoder.
    """

    name: str
    reads: tuple[AnyRead, ...]
    select: Select


@dataclass(frozen=True)
class DecoderStage:
    """On the hidden states that enter decoder layer `layer`."""

    name: str
    layer: int
    reads: tuple[Read, ...]
    select: Select
    positions: Positions = Positions.ORIGINAL


@dataclass(frozen=True, eq=False)
class Plan:
    """A method's promise for one sample: visual tokens entering each decoder layer, and the stages.

    `tower` has the stages of each segment, `encoder` one stage per segment, or none.
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
    def mean_entering(self) -> Fraction:
        return Fraction(sum(self.entering), len(self.entering))


def _fault(plan: object, sizes: Sizes) -> str | None:
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
    if plan.encoder and len(plan.encoder) != len(sizes.segments):
        return f"encoder has {len(plan.encoder)} stages for {len(sizes.segments)} images"
    if not isinstance(plan.new_tokens, NewTokens):
        return f"new_tokens is one of NewTokens, not {plan.new_tokens!r}"
    try:
        json.dumps(dict(plan.parameters), allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"parameters cannot be written to a record: {error}"
    return None


@dataclass(frozen=True)
class Method(ABC):
    """Base of all methods; fields of a subclass are its settings.

    A subclass gives `label` (the paper's spelling), `venue`, `link`, `cuts` (where it cuts, in
    words), `tower_reads` (all that its encoder stages read), `inside_tower` (whether it has stages
    between the tower's layers) and `solve`.
    """

    name: ClassVar[str] = ""
    label: ClassVar[str]
    venue: ClassVar[str] = ""
    link: ClassVar[str] = ""
    cuts: ClassVar[str] = ""
    inside_tower: ClassVar[bool] = False

    @property
    def tower_reads(self) -> tuple[AnyRead, ...]:
        return ()

    @abstractmethod
    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        """The plan nearest to `budget` < sizes.tokens, or None where the budget is infeasible."""

    def plan(self, budget: Budget, sizes: Sizes) -> Plan:
        """The plan for one sample; one with no more visual tokens than the budget stays whole.

        Raises InfeasibleBudgetError with the feasible range, and PruningError if `solve` raises
        anything but MemoryError, or gives what is no plan.
        """
        tokens = budget.of(sizes.tokens)
        if tokens >= sizes.tokens:
            return Plan(entering=(sizes.tokens,) * sizes.layers)
        plan = self._solved(tokens, sizes)
        if plan is None:
            low, high = self.feasible(sizes)
            raise InfeasibleBudgetError(self.label, float(tokens), low, high)
        return plan

    def _solved(self, tokens: Fraction, sizes: Sizes) -> Plan | None:
        own = f"{origin(type(self))}.solve for {float(tokens):g} of {sizes.tokens} tokens"
        try:
            plan = self.solve(tokens, sizes)
            fault = None if plan is None else _fault(plan, sizes)
        except (PruningError, MemoryError):
            raise
        except CAUGHT as error:
            raise PruningError(f"{own} raises {told(error)}") from error
        if fault is not None:
            raise PruningError(f"{own} gives no plan: {fault}")
        return plan

    def feasible(self, sizes: Sizes) -> tuple[int | None, int | None]:
        """Smallest and largest whole budget that can be met by cutting; all between them can.

        The sample's own token count is given as the largest where all budgets below it can be met.
        """

        def met(tokens: int) -> bool:
            return self._solved(Fraction(tokens), sizes) is not None

        last = sizes.tokens - 1
        inside = next(filter(met, (*range(1, last, max(last // 64, 1)), last)), None)
        if inside is None:
            return None, None
        low = bisect_left(range(inside), True, lo=1, key=met)
        high = bisect_left(range(last + 1), True, lo=inside, key=lambda b: not met(b)) - 1
        return low, high + (high == last)


def origin(method: type[Method]) -> str:
    """The class, with its file if it is from one."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    return f"{file}: {method.__qualname__}" if file else method.__qualname__
