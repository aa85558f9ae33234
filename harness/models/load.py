"""Models by name, directory or hub: what is wrong with them in one sentence, or loaded.

Only safetensors are read and no code of a checkpoint is run. torch and transformers are imported by
the functions that need them, so that bad input is refused before any work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from harness.embedded import checkpoint_path, video_checkpoint_path
from harness.errors import BadInput, blamed
from harness.models.files import check_files, digest_files
from harness.models.fit import check_fit, own_dtype
from harness.models.hub import is_hub_name, pinned, snapshot
from harness.models.placement import Placement, check_names, placed
from harness.models.presets import PRESETS, build, is_preset, preset
from harness.models.presets import digest as preset_digest
from harness.models.processor import processor_of
from harness.models.protocols import OWN, Protocol

EMBEDDED, EMBEDDED_VIDEO, TINY = "embedded", "embedded-video", "tiny"
NAMED = {
    EMBEDDED: "the trained LLaVA that comes with the package",
    EMBEDDED_VIDEO: "the trained LLaVA-NeXT-Video that comes with the package",
    TINY: "an untrained model of the same form, for tests",
    **{name: f"{own.what}; random weights, to be timed only" for name, own in PRESETS.items()},
}


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its processor, which pads on the left; a preset has none.

    `name` is what it was asked for by, with the commit of one from the Hugging Face hub.
    `digest` is the hex SHA-256 of all that decides its answers but the fields below it.
    """

    model: Any
    processor: Any
    name: str
    digest: str
    device: str
    dtype: str
    attention: str
    protocol: Protocol = OWN


@dataclass(frozen=True)
class Source:
    """A model that was found and checked, not yet loaded.

    `name`: as it was asked for, with the commit of one from the Hugging Face hub; `directory`: of
    its files, None for "tiny" and for presets; `images`: of a prompt unless told.
    """

    name: str
    directory: Path | None
    placement: Placement
    protocol: Protocol
    images: int = 1

    @property
    def can_answer(self) -> bool:
        """A preset has random weights and no tokenizer."""
        return not is_preset(self.name)

    def digest(self) -> str:
        """`LoadedModel.digest`; loads nothing but "tiny"."""
        if self.directory is not None:
            return digest_files(self.directory)
        return _tensor_digest(_tiny()) if self.can_answer else preset_digest(self.name)

    def load(self) -> LoadedModel:
        """The model as and where it was asked for. Raises BadInput where that cannot be."""
        import torch

        placement = self.placement
        kind = getattr(torch, placement.dtype)
        with _quiet():
            if self.directory is not None:
                model, processor = _from_directory(self.directory, kind, placement.attention)
            elif self.can_answer:
                model, processor = _tiny(), _tiny_processor()
                model.set_attn_implementation(placement.attention)
                model.to(kind)
            else:
                model = build(self.name, placement.device, kind, placement.attention)
                processor = None
        model.requires_grad_(False).eval().to(placement.device)
        if processor is not None:
            _prepare(processor)
        digest = self.digest()
        return LoadedModel(
            model, processor, self.name, digest, **vars(placement), protocol=self.protocol
        )


def resolve(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "sdpa",
    protocol: Protocol = OWN,
) -> Source:
    """Finds what is asked for and refuses what cannot be loaded and asked; loads no weight.

    Raises BadInput.
    """
    check_names(device, dtype, attention)
    if is_preset(name):
        images = preset(name).images
        own = placed(device, dtype, attention, "bfloat16")
        return Source(name, None, own, protocol, images)
    if name == TINY:
        return Source(name, None, placed(device, dtype, attention, "float32"), protocol)
    directory = model_directory(name)
    stored = own_dtype(directory)
    check_files(directory)
    with _quiet():
        check_fit(directory, protocol)
    own = placed(device, dtype, attention, stored)
    from_hub = is_hub_name(name) and not Path(name).is_dir()
    return Source(pinned(name) if from_hub else name, directory, own, protocol)


def load_model(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "sdpa",
    protocol: Protocol = OWN,
) -> LoadedModel:
    """A named model, a preset's or that of a directory. Raises BadInput as `resolve` does."""
    return resolve(name, device, dtype, attention, protocol).load()


def model_directory(name: str) -> Path:
    """The directory that `name` stands for. Raises BadInput with the nearest names there are."""
    if name == EMBEDDED:
        return checkpoint_path()
    if name == EMBEDDED_VIDEO:
        return video_checkpoint_path()
    directory = Path(name).expanduser()
    if directory.is_dir():
        return directory
    if directory.exists():
        raise BadInput(f"the model {name} is a file; name the directory that holds it")
    parent = directory.parent
    beside = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
    near = [str(parent / n) for n in get_close_matches(directory.name, beside, n=1)]
    if is_hub_name(name) and not near:
        return snapshot(name)
    near = get_close_matches(name, NAMED, n=1) or near
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    raise BadInput(
        f"unknown model {name!r}{guess} allowed: {', '.join(NAMED)}, a directory, "
        "or ORG/NAME on the Hugging Face hub"
    )


def _from_directory(directory: Path, dtype: Any, attention: str) -> tuple[Any, Any]:
    """Model and processor of a directory that `resolve` has passed."""
    from transformers import AutoModelForImageTextToText

    with blamed(f"the model in {directory} cannot be loaded"):
        model = AutoModelForImageTextToText.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
        )
    return model, processor_of(directory, model)


def _tiny() -> Any:
    from harness.embedded.architecture import build_tiny

    return build_tiny()


def _tiny_processor() -> Any:
    from harness.embedded.architecture import processor

    return processor()


def _prepare(processor: Any) -> None:
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _tensor_digest(model: Any) -> str:
    total = hashlib.sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what matters of them becomes a sentence."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
