"""Trains the embedded video model: `python -m harness.embedded.training.train_clips --out DIR`.

It continues the embedded image model. Its tower stays as it is; projector and decoder learn what
lies between frames, first with the places that objects pass, then with whole frames. All randomness
comes from the seed and a step's number.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import LlavaNextVideoForConditionalGeneration

from harness.embedded import checkpoint_path, scenes
from harness.embedded.training import batches, checkpoints, clip_batches
from harness.embedded.training.checkpoints import LOG_FILE, Place
from harness.embedded.training.clip_batches import ClipBatch, ClipRecipe
from harness.embedded.training.clip_objectives import clip_outcome
from harness.embedded.training.objectives import Outcome
from harness.embedded.training.phases import Steps
from harness.embedded.training.train import BETAS, DECAY, train_step
from harness.embedded.training.training_log import Log
from harness.embedded.training.turns import TURNS
from harness.embedded.video.architecture import build, load_images, save
from harness.embedded.video.clips import FRAMES
from harness.embedded.video.questions import TASKS
from harness.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class ClipPhase(Steps):
    """One stage; `naming` and `pointing` are weights of `clip_objectives`' losses."""

    recipe: ClipRecipe
    naming: float
    pointing: float


SOME_FRAMES = (FRAMES, FRAMES, FRAMES, 6, 4, 3, 2)
FULL = (
    ClipPhase(
        name="passed",
        steps=500,
        recipe=ClipRecipe(16, 3, 5, 12, (24, 32, 40), SOME_FRAMES),
        rate=8e-4,
        last=0.5,
        check=125,
        parts=2,
        naming=0.5,
        pointing=1.0,
    ),
    ClipPhase(
        name="whole",
        steps=220,
        recipe=ClipRecipe(12, 3, 5, 12, frames=SOME_FRAMES),
        rate=4e-4,
        last=0.02,
        warm=10,
        check=110,
        parts=2,
        naming=0.2,
        pointing=0.3,
    ),
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.embedded.training.train_clips", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the run")
    parser.add_argument(
        "--resume", action="store_true", help="go on where a run with the same options stopped"
    )
    parser.add_argument("--seed", type=int, default=0, help="of new words and clips")
    options = parser.parse_args()
    try:
        train(options.out, FULL, seed=options.seed, resume=options.resume)
    except BadInput as error:
        parser.error(str(error))


def train(
    out: Path, phases: tuple[ClipPhase, ...], *, seed: int = 0, resume: bool = False
) -> LlavaNextVideoForConditionalGeneration:
    """Runs the phases; leaves log.jsonl, state.safetensors and export/ in `out`.

    Raises BadInput for a run that cannot be resumed, or that would be overwritten.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(seed=seed)
    load_images(checkpoint_path(), model)
    model.set_attn_implementation({"vision_config": "sdpa", "text_config": TURNS})
    model.train().to(device)
    place = checkpoints.begin(out, " ".join(phase.name for phase in phases), resume, model)
    log = Log(out / LOG_FILE)
    threads = torch.get_num_threads()
    log.write("resume" if resume else "start", device=str(device), threads=threads, **asdict(place))
    for number in range(place.phase, len(phases)):
        place = Place(number, place.step if number == place.phase else 0, place.course)
        run_phase(out, model, phases[number], place, device, log, seed)
    return model


def run_phase(
    out: Path,
    model: LlavaNextVideoForConditionalGeneration,
    phase: ClipPhase,
    start: Place,
    device: torch.device,
    log: Log,
    seed: int,
    save_every: int = 50,
) -> None:
    """One phase from `start` to its end, with state, log and held-out accuracy on the way."""
    trained = [*model.model.language_model.parameters()]
    trained += model.model.multi_modal_projector.parameters()
    groups = [{"params": trained, "peak": phase.rate}]
    optimiser = torch.optim.AdamW(groups, betas=BETAS, weight_decay=DECAY, fused=True)
    if start.step:
        checkpoints.load_moments(out, model, optimiser)
    stream = batches.stream(
        clip_batches.training_batch,
        (scenes.TRAINING_KEY, seed, len(TASKS), start.phase),
        start.step,
        phase.steps,
        phase.recipe,
    )
    tracked = log.track(phase.name, stream, start.step, phase.steps)
    for step, batch in enumerate(tracked, start.step):
        learn = partial(part_outcome, model, phase, device)
        log.add(phase.name, step + 1, train_step(learn, optimiser, phase, step, batch))
        done = step + 1
        if done == phase.steps:
            checkpoints.save_state(out, Place(start.phase + 1, 0, start.course), model, None)
        elif done % save_every == 0:
            checkpoints.save_state(out, Place(start.phase, done, start.course), model, optimiser)
        if done == phase.steps or done % phase.check == 0:
            log.write("held-out", phase=phase.name, step=done, right=held_out(model, device))
            checkpoints.export(partial(save, model), out)


def part_outcome(
    model: LlavaNextVideoForConditionalGeneration,
    phase: ClipPhase,
    device: torch.device,
    part: ClipBatch,
) -> Outcome:
    """What the phase asks of a part of a batch."""
    with torch.autocast(device.type, torch.bfloat16):
        return clip_outcome(model, part, device, naming=phase.naming, pointing=phase.pointing)


def held_out(
    model: LlavaNextVideoForConditionalGeneration, device: torch.device, each: int = 40
) -> dict[str, float]:
    """Accuracy by task on clips never trained on, with one question each."""

    def score(batch: ClipBatch) -> dict[str, float]:
        # both are settings of a thread
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            return clip_outcome(model, batch, device).right

    right: dict[str, list[float]] = {task: [] for task in TASKS}
    model.eval()
    with ThreadPoolExecutor(2) as threads:
        for shares in threads.map(score, clip_batches.validation_batches(each, 10)):
            for task, share in shares.items():
                right[task].append(share)
    model.train()
    return {task: round(sum(v) / len(v), 3) for task, v in right.items()}


if __name__ == "__main__":
    main()
