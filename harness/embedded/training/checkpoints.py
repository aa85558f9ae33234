"""A training run's state as one safetensors file, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from harness.embedded.questions import WORDS
from harness.errors import BadInput

STATE_FILE, EXPORT_DIRECTORY, LOG_FILE = "state.safetensors", "export", "log.jsonl"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
NEW_WORD_SPREAD = 0.3


@dataclass(frozen=True)
class Place:
    """Where a run stands: `step` steps of phase number `phase` of a course are done."""

    phase: int
    step: int
    course: str


def save_state(
    directory: Path, place: Place, modules: nn.Module, optimiser: torch.optim.Optimizer | None
) -> None:
    """Parameters, and the optimiser's moments within a phase; between phases it has none."""
    tensors = {f"value/{n}": p.detach() for n, p in modules.named_parameters()}
    if optimiser is not None:
        for name, parameter in modules.named_parameters():
            for moment, tensor in optimiser.state.get(parameter, {}).items():
                tensors[f"{moment}/{name}"] = tensor
    metadata = {name: str(value) for name, value in asdict(place).items()}
    partial = directory / f"{STATE_FILE}.partial"
    save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, partial, metadata)
    os.replace(partial, directory / STATE_FILE)


def begin(out: Path, course: str, resume: bool, modules: nn.Module) -> Place:
    """Where a run begins: anew, or with the values of one that stopped in the same directory.

    Raises BadInput for a run that cannot be resumed, or that would be overwritten.
    """
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        place = load_place(out)
        if place.course != course:
            raise BadInput(f"{out} holds a run of {place.course}, which {course} does not resume")
        load_values(out, modules)
        return place
    if (out / LOG_FILE).exists():  # from its first moment on, a run has one
        raise BadInput(f"{out} holds a run already; resume it or choose another directory")
    return Place(0, 0, course)


def load_place(directory: Path) -> Place:
    """Where the run of a directory stopped."""
    if not (directory / STATE_FILE).is_file():
        raise BadInput(f"{directory} holds no {STATE_FILE} to resume from")
    with safe_open(directory / STATE_FILE, "pt") as file:
        metadata = file.metadata()
    return Place(int(metadata["phase"]), int(metadata["step"]), metadata["course"])


def load_values(directory: Path, modules: nn.Module) -> None:
    """Sets all parameters in place."""
    with safe_open(directory / STATE_FILE, "pt") as file, torch.no_grad():
        for name, parameter in modules.named_parameters():
            parameter.copy_(file.get_tensor(f"value/{name}"))


def load_saved(directory: Path, model: LlavaForConditionalGeneration) -> None:
    """Sets the parameters of `model` to those of a saved one, its words matched by name.

    A word that the saved model does not have begins near the mean of those that it has.
    """
    saved = LlavaForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    known = AutoTokenizer.from_pretrained(directory).get_vocab()
    values = saved.state_dict()
    embedding = values["model.language_model.embed_tokens.weight"]
    random = torch.Generator().manual_seed(0)
    words = embedding.mean(0) + NEW_WORD_SPREAD * embedding.std() * torch.randn(
        len(WORDS), embedding.shape[1], generator=random
    )
    for i, word in enumerate(WORDS):
        if word in known:
            words[i] = embedding[known[word]]
    for name, value in values.items():
        if value.shape == embedding.shape:
            values[name] = words
    model.load_state_dict(values)


def load_moments(directory: Path, modules: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Gives the optimiser the moments it had when the state was saved."""
    with safe_open(directory / STATE_FILE, "pt") as file:
        stored = set(file.keys())
        for name, parameter in modules.named_parameters():
            if f"{MOMENTS[1]}/{name}" in stored:
                optimiser.state[parameter] = {
                    m: file.get_tensor(f"{m}/{name}").to("cpu" if m == "step" else parameter.device)
                    for m in MOMENTS
                }


def export(save: Callable[[Path], None], directory: Path) -> None:
    """Lets `save` write a directory that the Auto classes load, in place of the one before."""
    final = directory / EXPORT_DIRECTORY
    partial, old = (directory / f"{EXPORT_DIRECTORY}.{part}" for part in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    save(partial)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)
