"""`harness show`: one cell or one item on the terminal, from records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.stats import median_spread
from harness.analysis.studies import is_timing_of
from harness.analysis.task_scores import columns_of
from harness.errors import BadInput, sentence, unknown
from harness.records.file import SUFFIX, UnreadableRecordError, read, readable
from harness.records.groups import answers_of, configurations, read_records, runs_of
from harness.records.ledger import LedgerRow, mean_entering
from harness.records.method_versions import told_apart
from harness.records.record import AccuracyRecord, EfficiencyRecord, Record
from harness.records.selections import Selection
from harness.tables import numbers
from harness.tables.saturation import tables_of_run
from harness.tables.table import Column, Parts, Table
from harness.visible import visible

if TYPE_CHECKING:
    from PIL import Image


def opened(path: Path, warn: Callable[[str], None]) -> list[Record]:
    """The whole records of a directory, or the one of a file. Raises BadInput."""
    if path.is_dir():
        groups, runs = configurations(read_records([path], warn, whole=True))
        return [*(record for group in groups for record in group), *runs]
    try:
        return [read(path)]
    except UnreadableRecordError as error:
        raise BadInput(f"cannot show {path}: {error}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error


def cell_tables(path: Path, records: Sequence[Record], warn: Callable[[str], None]) -> list[Table]:
    """What `path`, one record, says; its directory's runs may add the timing. Raises BadInput."""
    if path.is_dir():
        raise BadInput(f"{path} is a directory: name one of its records, or an item with --item")
    if isinstance(records[0], EfficiencyRecord):
        return tables_of_run(records[0])
    others = readable(sorted(path.parent.glob(f"efficiency-*{SUFFIX}")), warn)
    found = told_apart([records[0], *others])
    return [cell_table(record, runs_of(found)) for record in answers_of(found)]


def cell_table(record: AccuracyRecord, others: Sequence[EfficiencyRecord]) -> Table:
    """Plan, ledger, score and timing of an accuracy record's cell; `others` may have timed it."""
    identity, method = record.identity, record.method
    facts = {
        "Cell": record.cell.text,
        "Method": f"{method.label} {method.venue}".strip(),
        "Task": f"{identity.task}, version {identity.task_version}",
        "Settings": _pairs(identity.settings),
    }
    if record.is_ok:
        facts |= _result(record)
    else:
        facts["Status"] = f"{record.status}: {sentence(record.reason or '')}"
    if record.ledger:
        facts |= _counted(record)
    if record.is_ok:
        facts |= dict(_timing(record, others))
    facts["Made by"] = str(record.provenance.command)
    facts |= _by_whom(record)
    columns = (Column("", ("name",), left=True), Column("", ("value",), left=True))
    rows = tuple(((name,), (value,)) for name, value in facts.items() if value)
    return Table("Cell", columns, rows, notes=(numbers.origin([record]),))


def _by_whom(record: AccuracyRecord) -> dict[str, str]:
    """What is said where several workers answered, and where the memory held no whole batch."""
    workers, halved = record.provenance.workers, record.provenance.batch_halved_to
    at_once = f"{halved} at once from some point on, for want of memory" if halved else ""
    return {"Answered by": _pairs(workers) if isinstance(workers, dict) else "", "Batch": at_once}


def _result(record: AccuracyRecord) -> dict[str, str]:
    scores = (
        f"{column.title} {column.scores(record).values.mean():.1f} {column.unit}".strip()
        for column in columns_of([record])
    )
    count = len(record.samples)
    return {"Result": f"{', '.join(scores)} of {count} questions", "Promise": "kept"}


def _counted(record: AccuracyRecord) -> dict[str, str]:
    facts = {
        "Plan": _pairs(record.parameters),
        "Tokens": f"{mean_entering(record.ledger):.1f} a layer, counted",
    }
    alike: dict[str, int] = {}
    for row in record.ledger:
        tokens = f"{row.text} text tokens: {_layers(row)}"
        alike[tokens] = alike.get(tokens, 0) + row.samples
    for number, (tokens, samples) in enumerate(alike.items()):
        facts[f"Ledger {number + 1}"] = f"{samples} samples, {tokens}"
    return facts


def _layers(row: LedgerRow) -> str:
    """`0–1: 576, 2–31: 30`: visual tokens entering runs of layers that have equally many."""
    runs = []
    for tokens, group in groupby(enumerate(row.entering), lambda pair: pair[1]):
        layers = [layer for layer, _ in group]
        span = f"{layers[0]}–{layers[-1]}" if len(layers) > 1 else str(layers[0])
        runs.append(f"{span}: {tokens}")
    return ", ".join(runs)


def _timing(
    record: AccuracyRecord, others: Sequence[EfficiencyRecord]
) -> Iterator[tuple[str, str]]:
    runs = (run for run in others if is_timing_of(run, record))
    for timed in (timed for run in runs for timed in run.cells):
        if timed.cell.text == record.cell.text and timed.is_ok:
            for phase in timed.phases:
                raw = timed.raw(phase)
                flat = [x for v in raw for x in (v if isinstance(v, list) else [v])]
                if not flat:
                    continue
                found = median_spread([1000 * seconds for seconds in flat])
                three = map(numbers.three_digits, (found.value, found.low, found.high))
                yield phase.replace("_", " ").capitalize(), "{} ms ({}–{})".format(*three)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def item_table(records: Sequence[Record], item: str) -> Table:
    """What every cell made of one item: answer, score, and how many rows each stage kept.

    Raises BadInput for an item that no record has.
    """
    found = answered(records, item)
    columns = (
        Column("Cell", ("cell",), left=True),
        Column("Answer", ("answer",), left=True),
        Column("Score", ("score",)),
        Column("Tokens", ("counted_tokens",)),
        Column("Stages: rows kept", ("stages",), left=True),
    )
    rows = tuple(_item_row(record, place) for record, place in found)
    record, place = found[0]
    target, image = record.samples.targets[place], record.samples.images[place]
    notes = (f"expected: {target}", f"image {image}")
    return Table(f"Item {item}", columns, rows, notes=notes)


def _item_row(record: AccuracyRecord, place: int) -> tuple[Parts, ...]:
    samples = record.samples
    score = samples.scores[place]
    return (
        (record.cell.text,),
        (samples.answers[place],),
        ("" if score is None else numbers.number(float(score), 2),),
        (numbers.number(record.ledger[samples.rows[place]].mean_entering),),
        ("; ".join(map(_kept, samples.selections[place])),),
    )


def _kept(selection: Selection) -> str:
    """`rank 64 of 576`; a baseline has a digest in place of the rows."""
    if selection.kept is None:
        return f"{selection.stage} {selection.digest}"
    kept = bin(int(selection.kept, 16)).count("1")
    merging = "" if selection.groups is None else ", merging"
    return f"{selection.stage} {kept} of {selection.rows}{merging}"


def answered(records: Sequence[Record], item: str) -> list[tuple[AccuracyRecord, int]]:
    """Every cell's record that has an item, unpruned first, with the place of its sample.

    Raises BadInput if there is none.
    """
    done = [record for record in answers_of(records) if record.is_ok]
    done.sort(key=lambda record: record.cell.order)
    found = [(r, r.samples.places[item]) for r in done if item in r.samples.places]
    if not found:
        raise unknown("item", item, dict.fromkeys(i for r in done for i in r.samples.items))
    return found


def sheet(records: Sequence[Record], item: str) -> Image.Image:
    """The item's image under every cell's overlay, side by side with their names.

    Raises BadInput where the image cannot be had, or the item is unknown.
    """
    from PIL import Image, ImageDraw

    from harness.tables.page.images import asked
    from harness.tables.page.overlay import composed
    from harness.tables.page.views import traced

    side, head = 252, 20
    tiles = []
    for record, place in answered(records, item):
        samples = record.samples
        known = asked(record.task, item, samples.images[place])
        if known is None:
            raise BadInput(f"there is no picture of {item}: its image is not at hand")
        found = traced(record, place)
        if found is None:
            raise BadInput(
                f"there is no picture of {item}: not one image, of places that are known, or only "
                "digests"
            )
        name = f"{record.cell.text}: {samples.answers[place]}"
        tiles.append((name, composed(known.image, found, side)))
    across = min(len(tiles), 5)
    down = -(-len(tiles) // across)
    whole = Image.new("RGB", (across * (side + 8) - 8, down * (side + head + 8) - 8), "white")
    pen = ImageDraw.Draw(whole)
    for number, (text, tile) in enumerate(tiles):
        x, y = number % across * (side + 8), number // across * (side + head + 8)
        pen.text((x, y + 3), visible(text), fill="black")
        whole.paste(tile, (x, y + head))
    return whole


def write_sheet(records: Sequence[Record], item: str, output: Path) -> None:
    """Write `sheet` as PNG. Raises BadInput as it does, and where that cannot be written."""
    from harness.records.file import write_atomically
    from harness.tables.page.overlay import png

    picture = png(sheet(records, item))
    try:
        write_atomically(output, picture)
    except OSError as error:
        raise BadInput(f"cannot write {output}: {error.strerror or error}") from error
