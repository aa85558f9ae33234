"""A checkpoint's files, judged and digested without loading a weight; knows nothing of torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from harness.errors import BadInput

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PROCESSOR = "processor_config.json"
_IMAGE_PROCESSOR = (PROCESSOR, "preprocessor_config.json")
_TOKENIZER = ("tokenizer.json", "tokenizer.model")
DIGESTED = (".json", ".jinja", ".model", ".safetensors")
_SMALL = ("generation_config.json", "tokenizer_config.json", *_IMAGE_PROCESSOR)


def check_files(directory: Path) -> None:
    """Raises BadInput unless config, whole safetensors weights and a processor are there."""
    read_config(directory)
    for path in directory.iterdir():
        if path.suffix in DIGESTED and not (path.is_file() or path.is_dir()):
            raise BadInput(f"{path} is no regular file")
    tensor_count(directory)
    for name in _SMALL:
        if (directory / name).is_file():
            read_object(directory / name)
    for kind, names in (("image processor", _IMAGE_PROCESSOR), ("tokenizer", _TOKENIZER)):
        if not any((directory / name).is_file() for name in names):
            raise BadInput(
                f"the model in {directory} has no {kind}: {' or '.join(names)} is needed"
            )


def read_config(directory: Path) -> dict[str, Any]:
    """The content of config.json. Raises BadInput."""
    _check_no_adapter(directory)
    if not (directory / CONFIG).is_file():
        raise BadInput(
            f"{directory} holds no {CONFIG}; a model is a directory with {CONFIG}, "
            f"{WEIGHTS} and a processor"
        )
    return read_object(directory / CONFIG)


def _check_no_adapter(directory: Path) -> None:
    """transformers would load the model that an adapter names, whatever weights lie beside it."""
    if (directory / ADAPTER).is_file():
        base = read_object(directory / ADAPTER).get("base_model_name_or_path")
        raise BadInput(
            f"{directory} holds an adapter ({ADAPTER}), no whole model; merge it into its base "
            f"{base} (peft: merge_and_unload, save_pretrained) and name the directory of the result"
        )


def tensor_count(directory: Path) -> int:
    """Tensors in all weights together. Raises BadInput for a file that is not whole."""
    return sum(map(_tensors_in, weight_files(directory)))


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that make up the weights. Raises BadInput if one is not there."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if not (directory / INDEX).is_file():
        others = sorted(p.name for p in directory.glob("*.bin"))
        reason = f"; {others[0]} is not read, only safetensors are" if others else ""
        raise BadInput(f"{directory} holds no weights: {WEIGHTS} or {INDEX} is needed{reason}")
    return _shards(directory)


def _shards(directory: Path) -> list[Path]:
    """The files that the index names, each beside it."""
    index = read_object(directory / INDEX)
    if not isinstance(index.get("weight_map"), dict) or not index["weight_map"]:
        raise BadInput(f"{directory / INDEX} has no weight_map")
    shards = sorted({str(name) for name in index["weight_map"].values()})
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BadInput(
                f"{directory / INDEX} names {name!r}; allowed: .safetensors files beside it"
            )
        if not (directory / name).is_file():
            raise BadInput(f"{directory} lacks {name}, one of the {len(shards)} shards of {INDEX}")
    if not isinstance(index.get("metadata"), dict):
        raise BadInput(f"{directory / INDEX} has no metadata, without which it is not read")
    return [directory / name for name in shards]


def digest_files(directory: Path) -> str:
    """Hex SHA-256 over names and contents of all files that decide what the model answers."""
    total = hashlib.sha256()
    for path in sorted(p for p in directory.iterdir() if p.suffix in DIGESTED and p.is_file()):
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256")
        total.update(f"{path.name} {part.hexdigest()}\n".encode())
    return total.hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises BadInput."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds no JSON object but a {type(content).__name__}")
    return content


def _tensors_in(path: Path) -> int:
    try:
        with safe_open(path, framework="np") as file:
            return len(file.keys())
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is torn or no safetensors file: {error}") from None
