"""What the JSON of a record holds, key by key: the types, and by them the forms of reading.

Here what all records share, and answers; `timed_bodies` has the runs of timing.

All that is relied on is here; a record may hold more. Only files of this room read these keys:
others read a `Record`.
"""
# annotations are evaluated at once: which keys may be missing is read from them

from typing import Annotated, Any, NotRequired, TypedDict

from harness.records.cost import DTYPE_BYTES
from harness.records.form import (
    AMOUNT,
    BOOLEAN,
    BUDGET,
    COUNT,
    COUNT_OR_NONE,
    FULL_LIST,
    LIST_OR_NONE,
    LOG_PROBABILITY,
    MAPPING,
    NUMBER,
    NUMBER_OR_NONE,
    PLACE,
    POSITIVE,
    ROWS,
    ROWS_OR_0,
    words,
)

Count = Annotated[int, COUNT]
CountOrNone = Annotated[int | None, COUNT_OR_NONE]
Positive = Annotated[int, POSITIVE]
Budget = Annotated[int | str | None, BUDGET]
Number = Annotated[float, NUMBER]
NumberOrNone = Annotated[float | None, NUMBER_OR_NONE]
Amount = Annotated[float, AMOUNT]
Layers = Annotated[list[Count], FULL_LIST]


SHAPE = {
    **dict.fromkeys(
        (
            *("layers", "hidden_size", "intermediate_size", "attention_heads", "key_value_heads"),
            *("head_dim", "vocabulary", "tower_layers?", "tower_width?", "tower_intermediate?"),
            *("tower_rows?", "patch_values?", "projector_inner?"),
        ),
        POSITIVE,
    ),
    "image_tokens?": ROWS,
    **dict.fromkeys(("tower_matrices?", "projector_matrices?"), AMOUNT),
}
ShapeBody = Annotated[dict[str, int], SHAPE]
"""The fields of `methods.interface.ModelShape` that costs are computed from; none of an
image where its tokens depend on it, and of the tower and the projector then what both weigh.
"""


class LedgerBody(TypedDict):
    """A row of the ledger; see `ledger.LedgerRow`."""

    entering: Layers
    cached: Layers
    planned: Layers
    text: Positive
    samples: Positive
    selection_flops: NotRequired[Amount]
    tower: NotRequired[Any]
    tower_flops: NotRequired[Amount]
    projected: NotRequired[Count]
    visual: NotRequired[Count]
    images: NotRequired[Positive]
    resized: NotRequired[Count]
    mlp: NotRequired[Layers]
    by_data: NotRequired[Annotated[bool, BOOLEAN]]


class MethodBody(TypedDict):
    """How tables call a method, and where it was published."""

    name: str
    label: str
    venue: NotRequired[str]
    link: NotRequired[str]


class ConfigurationBody(TypedDict):
    """Of an identity, what all records of one comparison share."""

    model: str
    model_digest: str
    attention: str
    device: str
    code_digest: str
    batch_size: Positive
    dtype: Annotated[str, words(*DTYPE_BYTES)]
    versions: dict[str, str]
    seed: int
    protocol: NotRequired[str]
    chat_template: NotRequired[str]


class AnswersIdentity(ConfigurationBody):
    """Of a cell's answers to a task."""

    task: str
    task_version: str
    settings: dict[str, Any]
    budget: Budget
    limit: CountOrNone
    samples_per_task: NotRequired[Positive]
    sample: NotRequired[Count]
    matched: NotRequired[Count]
    method_file: NotRequired[str]
    budget_per: NotRequired[Annotated[str, words("image")]]
    documents: NotRequired[str]
    frames: NotRequired[Positive]


class ProvenanceBody(TypedDict, total=False):
    """None of it is relied on."""

    commit: str | None
    dirty: bool | None
    created: str
    rescored: str
    command: str
    device_name: str | None
    cpu: str
    threads: int
    gpu_before: dict[str, Any]
    workers: dict[str, Any]
    batch_halved_to: int


class CellBody(TypedDict):
    """What answers and times of a cell begin with."""

    cell: str
    reason: str | None
    method: MethodBody
    feasible: NotRequired[list[CountOrNone]]


class LeftOutBody(TypedDict):
    """How many of a task's questions no cell was asked, of how many, and why."""

    questions: Positive
    of: Positive
    why: str


class AccuracyOutline(CellBody):
    """Of every cell's answers to a task, whatever came of it."""

    left_out: NotRequired[LeftOutBody]

    status: Annotated[str, words("ok", "failed", "infeasible")]
    identity: AnswersIdentity
    provenance: Annotated[ProvenanceBody, MAPPING]


class FirstTokenBody(TypedDict):
    """The most likely first tokens of an answer, best first; empty in baselines."""

    ids: NotRequired[list[Count]]
    logprobs: NotRequired[list[Annotated[float | None, LOG_PROBABILITY]]]


class SelectionBody(TypedDict):
    """What a stage kept of one sample; see `selections`. A baseline has a digest in its place."""

    stage: str
    layer: CountOrNone
    segment: NotRequired[CountOrNone]
    rows: NotRequired[Annotated[int, ROWS]]
    kept: NotRequired[str]
    digest: NotRequired[str]
    groups: NotRequired[list[Annotated[int, PLACE]]]


class GridBody(TypedDict):
    """A segment of a sample's image, as `methods.sizes.Segment` has it; see `grids`."""

    h: Annotated[int, ROWS]
    w: Annotated[int, ROWS]
    newline: Annotated[str, words("none", "row", "end")]
    has_cls: NotRequired[Annotated[bool, BOOLEAN]]
    crops: NotRequired[list[Annotated[int, ROWS_OR_0]]]
    resampled: NotRequired[Annotated[bool, BOOLEAN]]


class SampleOutline(TypedDict):
    """A question and its answer; `ledger` is the number of its row there."""

    item: str
    image: str
    answer: str
    target: Any
    score: NumberOrNone
    ledger: Count


class DetailsBody(TypedDict):
    """What only close study needs of a sample; an outline has it not."""

    first_token: FirstTokenBody
    selections: list[SelectionBody]
    grids: NotRequired[list[GridBody]]


class SampleBody(SampleOutline, DetailsBody):
    """A sample of a whole record."""


class MetricBody(TypedDict):
    """What a task scores. `per_question`: times a question's score, None where it is no mean of
    them; `without`: the score without each group of images, `why` it has none.
    """

    value: Number
    per_question: NumberOrNone
    why: str | None
    without: Annotated[list[float] | None, LIST_OR_NONE]


class AnsweredBody(TypedDict):
    """Of a cell whose questions were answered."""

    parameters: dict[str, Any]
    shape: ShapeBody
    ledger: Annotated[list[LedgerBody], FULL_LIST]
    samples: Annotated[list[SampleOutline], FULL_LIST]


class AccuracyBody(AccuracyOutline, AnsweredBody):
    """Without the keys of `AnsweredBody` where nothing was answered."""

    metric: NotRequired[str]
    metrics: NotRequired[dict[str, MetricBody]]
