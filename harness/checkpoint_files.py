"""A checkpoint's files, judged and digested without loading a weight; knows nothing of torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.errors import BadInput

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_IMAGE_PROCESSOR = ("processor_config.json", "preprocessor_config.json")
_TOKENIZER = ("tokenizer.json", "tokenizer.model")
_DIGESTED = (".json", ".jinja", ".model", ".safetensors")
_HEADER_LIMIT = 100_000_000


def check_files(directory: Path) -> None:
    """Raises BadInput unless config, whole safetensors weights and a processor are there."""
    read_config(directory)
    for path in weight_files(directory):
        _check_whole(path)
    for kind, names in (("image processor", _IMAGE_PROCESSOR), ("tokenizer", _TOKENIZER)):
        if not any((directory / name).is_file() for name in names):
            raise BadInput(
                f"the model in {directory} has no {kind}: {' or '.join(names)} is needed"
            )


def read_config(directory: Path) -> dict[str, Any]:
    """The content of config.json. Raises BadInput."""
    if not (directory / CONFIG).is_file():
        raise BadInput(
            f"{directory} holds no {CONFIG}; a model is a directory with {CONFIG}, "
            f"{WEIGHTS} and a processor"
        )
    config = _read_json(directory / CONFIG)
    if not isinstance(config, dict):
        raise BadInput(f"{directory / CONFIG} is not a model's configuration")
    return config


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that make up the weights. Raises BadInput if one is not there."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if not (directory / INDEX).is_file():
        others = sorted(p.name for p in directory.glob("*.bin"))
        reason = f"; {others[0]} is not read, only safetensors are" if others else ""
        raise BadInput(f"{directory} holds no weights: {WEIGHTS} or {INDEX} is needed{reason}")
    index = _read_json(directory / INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        raise BadInput(f"{directory / INDEX} has no weight_map")
    shards = sorted({str(name) for name in index["weight_map"].values()})
    for name in shards:
        if not (directory / name).is_file():
            raise BadInput(f"{directory} lacks {name}, one of the {len(shards)} shards of {INDEX}")
    return [directory / name for name in shards]


def digest_files(directory: Path) -> str:
    """Hex SHA-256 over names and contents of all files that decide what the model answers."""
    total = hashlib.sha256()
    for path in sorted(p for p in directory.iterdir() if p.suffix in _DIGESTED):
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256")
        total.update(f"{path.name} {part.hexdigest()}\n".encode())
    return total.hexdigest()


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}") from None


def _check_whole(path: Path) -> None:
    """A safetensors file is 8 bytes, a header of that many bytes, and the tensors it lists."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size, _HEADER_LIMIT):
            raise BadInput(f"{path} is torn or no safetensors file: its header is not whole")
        try:
            header = json.loads(file.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise BadInput(
                f"{path} is torn or no safetensors file: its header is damaged"
            ) from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise BadInput(f"{path} is torn: it has {size} bytes of {expected}")
