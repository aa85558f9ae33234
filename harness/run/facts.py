"""What a comparison must know that is known once the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput
from harness.models.placement import machine
from harness.records.cell import Cell
from harness.records.provenance import code_digest, versions
from harness.run.request import (
    Feasible,
    Match,
    Request,
    cells_of,
    check_budgets,
    check_some_meet,
    infeasible_cells,
)

if TYPE_CHECKING:
    from harness.models.load import LoadedModel, Source


@dataclass(frozen=True)
class Facts:
    """`loaded`: without model and processor where these are elsewhere; `images` of a timed prompt;
    `cells` of the request, and those `infeasible`; `identity`: what all records share; `machine`:
    what their origin says of it.
    """

    loaded: LoadedModel
    images: int
    cells: Sequence[Cell]
    infeasible: Mapping[Cell, Feasible]
    identity: Mapping[str, Any]
    machine: Mapping[str, Any]


def facts_of(request: Request, source: Source) -> Facts:
    """Loads the model. Raises BadInput and PruningError."""
    loaded = source.load()
    images = request.images or source.images
    cells, infeasible = cells_for(request, loaded, images)
    return Facts(loaded, images, cells, infeasible, identity_of(loaded), machine(loaded.device))


def cells_for(
    request: Request, loaded: LoadedModel, images: int
) -> tuple[Sequence[Cell], Mapping[Cell, Feasible]]:
    """All cells of the request, and those that cannot be, with the budgets that can: where an
    image's tokens depend on the image, that is seen when it is asked about.

    Budgets of FLOPs are those of a short question about one image, or else of the timed prompt.
    """
    from harness.models.shapes import shape_of, sizes_of

    sizes = sizes_of(loaded.model, images)
    if request.match == Match.TOKENS:
        infeasible = {} if sizes is None else infeasible_cells(request, sizes)
        return cells_of(request), infeasible
    if sizes is None:
        raise BadInput(
            f"--match flops needs images of one number of tokens, and those of {loaded.name} "
            "depend on the image; allowed: --match tokens"
        )
    from harness.run.matching import matched_cells

    check_budgets(request, sizes)
    text = question_tokens(loaded) if request.accuracy else request.prompt_tokens
    cells, infeasible = matched_cells(cells_of(request), sizes, shape_of(loaded.model), text)
    check_some_meet(request, infeasible)
    return cells, infeasible


def question_tokens(loaded: LoadedModel) -> int:
    """Text tokens of the prompt of a short question about one image."""
    prompt = loaded.protocol.prompt(loaded.processor, "how many red objects ?", 1)
    return len(loaded.processor.tokenizer(prompt)["input_ids"]) - 1  # one stands for the image


def identity_of(loaded: LoadedModel) -> dict[str, Any]:
    """What every record of this comparison shares."""
    return {
        "model": loaded.name,
        "model_digest": loaded.digest,
        "dtype": loaded.dtype,
        "attention": loaded.attention,
        "device": loaded.device,
        "code_digest": code_digest(),
        "versions": versions(),
        **loaded.protocol.identity(),
    }
