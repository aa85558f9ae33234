"""Trains the embedded LLaVA: `python -m harness.embedded.training.train --out DIR [--init DIR]`.

First the tower learns, on windows of scenes, what each patch shows; then tower and decoder learn
to answer, on windows and few layers first, on whole images and all 32 layers last. A layer that
joins begins as the identity, so nothing is lost at a joint. All randomness comes from the seed and
a step's number; phases are counted in steps, so the same machine gives the same weights again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from harness.embedded import scenes
from harness.embedded.architecture import DECODER_LAYERS, SHIPPED, build, save
from harness.embedded.questions import TASKS
from harness.embedded.training import batches, checkpoints
from harness.embedded.training.batches import Batch
from harness.embedded.training.checkpoints import LOG_FILE, Place
from harness.embedded.training.objectives import (
    Outcome,
    TowerHeads,
    answer_outcome,
    mean_outcome,
    tower_of,
    tower_outcome,
)
from harness.embedded.training.phases import CONTINUED, FULL, REDUCED, Phase, Steps
from harness.embedded.training.training_log import Log
from harness.embedded.training.turns import TURNS
from harness.errors import BadInput

CLIP_NORM, BETAS, DECAY = 1.0, (0.9, 0.98), 0.02


class Trainee(nn.Module):
    """The model with the heads that serve its training."""

    def __init__(self, model: LlavaForConditionalGeneration, heads: TowerHeads) -> None:
        super().__init__()
        self.model = model
        self.heads = heads


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.embedded.training.train", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the run")
    parser.add_argument(
        "--resume", action="store_true", help="go on where a run with the same options stopped"
    )
    parser.add_argument("--reduced", action="store_true", help="three minutes, to try it out")
    parser.add_argument("--init", type=Path, help="directory of a saved model to start from")
    parser.add_argument("--seed", type=int, default=0, help="of weights and scenes")
    options = parser.parse_args()
    phases = REDUCED if options.reduced else CONTINUED if options.init else FULL
    try:
        train(options.out, phases, init=options.init, seed=options.seed, resume=options.resume)
    except BadInput as error:
        parser.error(str(error))


def train(
    out: Path,
    phases: tuple[Phase, ...],
    *,
    init: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    save_every: int = 100,
) -> LlavaForConditionalGeneration:
    """Runs the phases; leaves log.jsonl, state.safetensors and export/ in `out`.

    Raises BadInput for a run that cannot be resumed, or that would be overwritten.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainee = prepare(seed)
    if init is not None and not resume:
        checkpoints.load_saved(init, trainee.model)
    trainee.to(device)
    course = " ".join(phase.name for phase in phases)
    place = checkpoints.begin(out, course, resume, trainee)
    log = Log(out / LOG_FILE)
    log.write(
        "resume" if resume else "start",
        device=str(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        **asdict(place),
    )
    for number in range(place.phase, len(phases)):
        first = place.step if number == place.phase else 0
        place = Place(number, first, course)
        run_phase(out, trainee, phases[number], place, device, log, save_every, seed)
    return trainee.model


def prepare(seed: int) -> Trainee:
    """Model and heads; the decoder's layers are the identity until they are trained."""
    model = build(SHIPPED, seed=seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        heads = TowerHeads(SHIPPED.tower_width)
        fewest = 8
        for number, layer in enumerate(model.model.language_model.layers):
            if number % (DECODER_LAYERS // fewest):
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
    return Trainee(model.train(), heads)


def run_phase(
    out: Path,
    trainee: Trainee,
    phase: Phase,
    start: Place,
    device: torch.device,
    log: Log,
    save_every: int,
    seed: int,
) -> None:
    """One phase from `start` to its end, with state, log and held-out accuracy on the way."""
    model = trainee.model
    choose_attention(model, phase.recipe.grid)
    with depth(model, phase.layers or DECODER_LAYERS):
        optimiser = optimiser_of(trainee, phase)
    if start.step:
        checkpoints.load_moments(out, trainee, optimiser)
    stream = batches.stream(
        batches.training_batch,
        (scenes.TRAINING_KEY, seed, start.phase),
        start.step,
        phase.steps,
        phase.recipe,
    )
    tracked = log.track(phase.name, stream, start.step, phase.steps)
    for step, batch in enumerate(tracked, start.step):
        with depth(model, phase.layers or DECODER_LAYERS):
            learn = partial(part_outcome, trainee, phase, device)
            outcome = train_step(learn, optimiser, phase, step, batch)
        done = step + 1
        log.add(phase.name, done, outcome)
        if done == phase.steps:
            checkpoints.save_state(out, Place(start.phase + 1, 0, start.course), trainee, None)
        elif done % save_every == 0:
            checkpoints.save_state(out, Place(start.phase, done, start.course), trainee, optimiser)
        if phase.layers and (done == phase.steps or done % phase.check == 0):
            right = held_out(model, phase, device)
            log.write("held-out", phase=phase.name, step=done, right=right)
            checkpoints.export(partial(save, model), out)


def choose_attention(model: LlavaForConditionalGeneration, grid: int) -> None:
    """The decoder's for turns; the tower trains faster with eager on 8 x 8 windows, else sdpa."""
    tower = "eager" if grid <= 8 else "sdpa"
    model.set_attn_implementation({"vision_config": tower, "text_config": TURNS})


def optimiser_of(trainee: Trainee, phase: Phase) -> torch.optim.AdamW:
    """AdamW on what the phase trains; a group's rate at its peak is kept as `peak`."""
    model, groups = trainee.model, []
    if phase.layers:
        trained = [*model.model.language_model.parameters()]
        trained += model.model.multi_modal_projector.parameters()
        groups.append({"params": trained, "peak": phase.rate})
    else:
        groups.append({"params": [*trainee.heads.parameters()], "peak": phase.rate})
    if phase.tower_rate:
        tower = [*tower_of(model).parameters()]
        groups.append({"params": tower, "peak": phase.rate * phase.tower_rate})
    return torch.optim.AdamW(groups, betas=BETAS, weight_decay=DECAY, fused=True)


def train_step(
    outcome_of: Callable[[Any], Outcome],
    optimiser: torch.optim.AdamW,
    phase: Steps,
    step: int,
    batch: Any,
) -> Outcome:
    """One update by `outcome_of` a part of the batch; loss and accuracies are from before it.

    Each part of the batch has a thread of its own: on busy cores two threads that wait for nothing
    but the end of a step get more done than two that share every operation. A sum of two has no
    order, so the result does not depend on which ends first.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * step / (phase.curve or phase.steps)))
    scale = min(1.0, (step + 1) / phase.warm) * (phase.last + (1 - phase.last) * cosine)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * scale
    optimiser.zero_grad(set_to_none=True)

    def learn(part: Any) -> Outcome:
        outcome = outcome_of(part)
        (outcome.loss / phase.parts).backward()
        return Outcome(outcome.loss.detach(), outcome.right)

    with ThreadPoolExecutor(phase.parts) as threads:
        outcomes = list(threads.map(learn, batches.split(batch, phase.parts)))
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(trained, CLIP_NORM)
    optimiser.step()
    return mean_outcome(outcomes)


def part_outcome(trainee: Trainee, phase: Phase, device: torch.device, part: Batch) -> Outcome:
    """What the phase asks of a part of a batch."""
    with torch.autocast(device.type, torch.bfloat16):
        if phase.layers:
            frozen = not phase.tower_rate
            return answer_outcome(
                trainee.model,
                part,
                device,
                frozen_tower=frozen,
                naming=phase.naming,
                pointing=phase.pointing,
            )
        return tower_outcome(trainee.model, trainee.heads, part, device)


@contextmanager
def depth(model: LlavaForConditionalGeneration, layers: int) -> Iterator[None]:
    """Leaves only every (32 / layers)-th decoder layer in place while it lasts."""
    decoder = model.model.language_model
    everything = decoder.layers
    decoder.layers = everything[:: DECODER_LAYERS // layers]
    decoder.config.num_hidden_layers = layers
    try:
        yield
    finally:
        decoder.layers = everything
        decoder.config.num_hidden_layers = DECODER_LAYERS


def held_out(
    model: LlavaForConditionalGeneration, phase: Phase, device: torch.device, each: int = 40
) -> dict[str, float]:
    """Accuracy by task on scenes like the phase's, never trained on, with one question each."""

    def score(batch: Batch) -> dict[str, float]:
        # both are settings of a thread
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            return answer_outcome(model, batch, device).right

    right: dict[str, list[float]] = {task: [] for task in TASKS}
    model.eval()
    held = batches.validation_batches(each, 10, phase.recipe)
    with depth(model, phase.layers), ThreadPoolExecutor(2) as threads:
        for shares in threads.map(score, held):
            for task, share in shares.items():
                right[task].append(share)
    model.train()
    return {task: round(sum(v) / len(v), 3) for task, v in right.items()}


if __name__ == "__main__":
    main()
