"""`harness efficiency`: one record of interleaved rounds a batch size, without lmms-eval."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, warn
from harness.models.placement import free_bytes, machine
from harness.records.form import MOST_COUNT
from harness.records.provenance import provenance
from harness.records.record import EfficiencyRecord
from harness.records.store import opened
from harness.run.cells import Measure, Work
from harness.run.progress import progress_on
from harness.run.request import Request

if TYPE_CHECKING:
    from harness.efficiency.workload import Load
    from harness.models.load import LoadedModel

GIB = 2**30


@dataclass(frozen=True)
class Extent:
    """What `harness efficiency` asks beyond a `Request`; `images` None: as the model's preset."""

    batch_sizes: tuple[int, ...]
    prompt_tokens: int
    new_tokens: int
    images: int | None
    allow_busy: bool
    memory_gib: float | None
    most_minutes: float | None


def parse_batch_sizes(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 up, in the order given. Raises BadInput."""
    from harness.run.request import words

    sizes = words("--batch-size", text)
    wrong = [size for size in sizes if not size.isdecimal() or int(size) < 1]
    if wrong:
        raise BadInput(f"a batch size is a whole number from 1 up, not {wrong[0]!r}")
    return tuple(map(int, sizes))


def check_extent(extent: Extent) -> Extent:
    """Raises BadInput for a number out of range."""
    low = {"prompt_tokens": 1, "new_tokens": 2, "images": 1}
    for name, least in low.items():
        value = getattr(extent, name)
        if value is not None and value < least:
            option = name.replace("_", "-")
            raise BadInput(f"--{option} is a whole number from {least} up, not {value}")
        if value is not None and value > MOST_COUNT:
            raise BadInput(f"--{name.replace('_', '-')} is at most {MOST_COUNT}, not {value}")
    for name, value in (("find-max-batch", extent.memory_gib), ("minutes", extent.most_minutes)):
        if value is not None and not 0 < value < inf:
            raise BadInput(f"--{name} is a number above 0, not {value:g}")
    return extent


def efficiency(request: Request, extent: Extent) -> int:
    """Exit status: 0, 1 if a cell failed, 130 after Ctrl-C. Raises BadInput and PruningError."""
    from harness.efficiency.gpu import check_idle
    from harness.efficiency.workload import Load
    from harness.models.load import check_model, load_model
    from harness.models.presets import images_of
    from harness.run.compare import cells_for, check_settings, conclude, identity_of

    check_settings(request)
    placement = check_model(request.model, request.device, request.dtype, request.attention)
    state = check_idle(placement.device, extent.allow_busy)
    with opened(request.output, warn, request.fresh) as store:
        loaded = load_model(request.model, request.device, request.dtype, request.attention)
        images = extent.images or images_of(request.model)
        loads = [
            Load(batch, images, extent.prompt_tokens, extent.new_tokens, request.seed)
            for batch in extent.batch_sizes
        ]
        for load in loads:
            check_room(loaded, load)
        cells, infeasible = cells_for(request, loaded, images, extent.prompt_tokens)
        progress = progress_on(sys.stderr)
        origin = {
            **provenance(machine(loaded.device)),
            "gpu_before": state,
            "allow_busy": extent.allow_busy,
        }
        identity = identity_of(loaded, loads[0].batch_size)
        work = Work(cells, infeasible, identity, origin, store, progress)

        def record(load: Load) -> EfficiencyRecord:
            first = load is loads[0]
            memory_gib = extent.memory_gib if first else None
            return work.efficiency(
                *measuring(loaded, request.repeats, load, extent.most_minutes, memory_gib)
            )

        return conclude(lambda: map(record, loads), store, progress)


def measuring(
    loaded: LoadedModel,
    repeats: int,
    load: Load,
    most_minutes: float | None = None,
    memory_gib: float | None = None,
) -> tuple[Measure, dict[str, Any]]:
    """What measures, and the run's own part of the record's identity."""
    from harness.efficiency import cell as timed_cell
    from harness.efficiency import instrument as timing

    settings = {
        "repeats": repeats,
        "warmups": [timed_cell.WARMUPS, timing.MOST_WARMUPS],
        "most_minutes": most_minutes,
        "memory_gib": memory_gib,
        "batch_size": load.batch_size,
        **load.identity(),
    }
    seconds = None if most_minutes is None else 60 * most_minutes
    measure = partial(
        timing.measure,
        loaded,
        load=load,
        repeats=repeats,
        most_seconds=seconds,
        memory_gib=memory_gib,
    )
    return measure, settings


def check_room(loaded: LoadedModel, load: Load) -> None:
    """Raises BadInput for a batch whose inputs alone are more than the memory that is free."""
    from methods.adapters import adapter_for

    config = loaded.model.config
    vision, text = config.vision_config, config.get_text_config()
    tokens = load.prompt_tokens + load.images * adapter_for(loaded.model).shape().image_tokens
    values = load.images * vision.num_channels * vision.image_size**2 + tokens * text.hidden_size
    needed = load.batch_size * values * loaded.model.dtype.itemsize
    free = free_bytes(loaded.device)
    if needed > free:
        raise BadInput(
            f"the inputs of batch {load.batch_size} take {needed / GIB:.1f} GiB, "
            f"{free / GIB:.1f} GiB are free; allowed: a smaller --batch-size"
        )
