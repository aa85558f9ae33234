"""`harness show`: one cell or one item on the terminal, from records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.stats import median_spread
from harness.analysis.task_scores import columns_of
from harness.errors import BadInput, sentence, unknown
from harness.records.cell import Cell
from harness.records.file import SUFFIX, Record, UnreadableRecordError, read, readable
from harness.records.frames import read_records
from harness.records.groups import configurations
from harness.records.ledger import judged, mean_entering
from harness.records.method_versions import told_apart
from harness.tables import numbers
from harness.tables.efficiency import efficiency_table
from harness.tables.table import Column, Parts, Table
from harness.visible import visible

if TYPE_CHECKING:
    from PIL import Image

Sample = Mapping[str, Any]


def opened(path: Path, warn: Callable[[str], None]) -> list[Record]:
    """The whole records of a directory, or the one of a file. Raises BadInput."""
    if path.is_dir():
        groups, runs = configurations(read_records([path], warn, whole=True))
        return [*(record for group in groups for record in group), *runs]
    try:
        return [judged(read(path))]
    except UnreadableRecordError as error:
        raise BadInput(f"cannot show {path}: {error}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error


def cell_tables(path: Path, records: Sequence[Record], warn: Callable[[str], None]) -> list[Table]:
    """What `path`, one record, says; its directory's runs may add the timing. Raises BadInput."""
    if path.is_dir():
        raise BadInput(f"{path} is a directory: name one of its records, or an item with --item")
    if records[0]["kind"] == "efficiency":
        return [efficiency_table(records[0])]
    others = readable(sorted(path.parent.glob(f"efficiency-*{SUFFIX}")), warn)
    record, *runs = told_apart([records[0], *map(judged, others)])
    return [cell_table(record, runs)]


def cell_table(record: Record, others: Sequence[Record]) -> Table:
    """Plan, ledger, score and timing of an accuracy record's cell; `others` may have timed it."""
    identity = record["identity"]
    facts = {
        "Cell": record["cell"],
        "Method": " ".join(
            filter(None, [record["method"]["label"], record["method"].get("venue")])
        ),
        "Task": f"{identity['task']}, version {identity['task_version']}",
        "Settings": _pairs(identity["settings"]),
    }
    if record["status"] == "ok":
        facts |= _result(record)
    else:
        facts["Status"] = f"{record['status']}: {sentence(record.get('reason') or '')}"
    if record.get("ledger"):
        facts |= _counted(record)
    if record["status"] == "ok":
        facts |= dict(_timing(record, others))
    facts["Made by"] = str(record["provenance"].get("command"))
    columns = (Column("", ("name",), left=True), Column("", ("value",), left=True))
    rows = tuple(((name,), (value,)) for name, value in facts.items() if value)
    return Table("Cell", columns, rows, notes=(numbers.origin([record]),))


def _result(record: Record) -> dict[str, str]:
    scores = (
        f"{column.title} {column.scores(record).values.mean():.1f} {column.unit}".strip()
        for column in columns_of([record])
    )
    count = len(record["samples"])
    return {"Result": f"{', '.join(scores)} of {count} questions", "Promise": "kept"}


def _counted(record: Record) -> dict[str, str]:
    facts = {
        "Plan": _pairs(record["parameters"]),
        "Tokens": f"{mean_entering(record['ledger']):.1f} a layer, counted",
    }
    alike: dict[str, int] = {}
    for row in record["ledger"]:
        tokens = f"{row['text']} text tokens: {_layers(row)}"
        alike[tokens] = alike.get(tokens, 0) + row["samples"]
    for number, (tokens, samples) in enumerate(alike.items()):
        facts[f"Ledger {number + 1}"] = f"{samples} samples, {tokens}"
    return facts


def _layers(row: Mapping[str, Any]) -> str:
    """`0–1: 576, 2–31: 30`: visual tokens entering runs of layers that have equally many."""
    runs = []
    for tokens, group in groupby(enumerate(row["entering"]), lambda pair: pair[1]):
        layers = [layer for layer, _ in group]
        span = f"{layers[0]}–{layers[-1]}" if len(layers) > 1 else str(layers[0])
        runs.append(f"{span}: {tokens}")
    return ", ".join(runs)


def _timing(record: Record, others: Sequence[Record]) -> Iterator[tuple[str, str]]:
    same = ("model_digest", "dtype", "attention")
    for other in others:
        if other["kind"] != "efficiency":
            continue
        if any(other["identity"][key] != record["identity"][key] for key in same):
            continue
        for cell in other["cells"]:
            if cell["cell"] == record["cell"] and cell["status"] == "ok":
                for phase, raw in cell["raw_seconds"].items():
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
    found = samples_of(records, item)
    columns = (
        Column("Cell", ("cell",), left=True),
        Column("Answer", ("answer",), left=True),
        Column("Score", ("score",)),
        Column("Tokens", ("counted_tokens",)),
        Column("Stages: rows kept", ("stages",), left=True),
    )
    rows = tuple(_item_row(record, sample) for record, sample in found)
    target = str(found[0][1]["target"])
    notes = [f"expected: {target}", f"image {found[0][1]['image']}"]
    return Table(f"Item {item}", columns, rows, notes=tuple(notes))


def _item_row(record: Record, sample: Sample) -> tuple[Parts, ...]:
    stages = map(_kept, sample["selections"])
    tokens = mean_entering([{**record["ledger"][sample["ledger"]], "samples": 1}])
    return (
        (record["cell"],),
        (str(sample["answer"]),),
        ("" if sample["score"] is None else numbers.number(float(sample["score"]), 2),),
        (numbers.number(tokens),),
        ("; ".join(stages),),
    )


def _kept(selection: Mapping[str, Any]) -> str:
    """`rank 64 of 576`; a baseline has a digest in place of the rows."""
    if "kept" not in selection:
        return f"{selection['stage']} {selection['digest']}"
    kept = bin(int(selection["kept"], 16)).count("1")
    merging = ", merging" if "groups" in selection else ""
    return f"{selection['stage']} {kept} of {selection['rows']}{merging}"


def samples_of(records: Sequence[Record], item: str) -> list[tuple[Record, Sample]]:
    """Every cell's sample of an item, unpruned first. Raises BadInput if there is none."""
    done = [r for r in records if r["kind"] == "accuracy" and r["status"] == "ok"]
    done.sort(key=lambda record: Cell.parse(record["cell"]).order)
    found = [(r, s) for r in done for s in r["samples"] if str(s["item"]) == item]
    if not found:
        raise unknown(
            "item", item, dict.fromkeys(str(s["item"]) for r in done for s in r["samples"])
        )
    return found


def sheet(records: Sequence[Record], item: str) -> Image.Image:
    """The item's image under every cell's overlay, side by side with their names.

    Raises BadInput where the image cannot be had, or the item is unknown.
    """
    from PIL import Image, ImageDraw

    from harness.tables.page.images import asked
    from harness.tables.page.overlay import composed, patches

    side, head = 252, 20
    tiles = []
    for record, sample in samples_of(records, item):
        known = asked(record["identity"]["task"], item, str(sample["image"]))
        if known is None:
            raise BadInput(f"there is no picture of {item}: its image is not at hand")
        traced = patches(sample["selections"], record["shape"]["image_tokens"])
        if traced is None:
            raise BadInput(f"there is no picture of {item}: not one square image, or only digests")
        tiles.append((f"{record['cell']}: {sample['answer']}", composed(known.image, traced, side)))
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
