"""Answers of a model to questions about images while one method prunes it.

What every cell of a comparison would do again is kept: a question's token ids and its images' keys,
and in the store what the vision tower made of each image. Knows nothing of tasks or of lmms-eval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from harness.accuracy.batches import padded, together
from harness.accuracy.decoding import cut_at, generate_arguments
from harness.accuracy.downsampling import downsampled, runs_of
from harness.errors import BadInput, cause
from harness.models.load import LoadedModel
from harness.models.shapes import shape_of
from harness.models.videos import Video
from harness.records.counted import broken_promises, ledgers_of
from harness.records.digests import image_digest, video_digest
from harness.records.grids import grid_bodies
from harness.records.selections import selections_of
from methods import Budget, Method, PruningError, attach
from methods.sharing import SharedImages, TowerStore
from methods.trace import Prefill

MOST_LIKELY = 32
Visual = Image.Image | Video


@dataclass(frozen=True)
class Question:
    """`item` names it for good; `read` gives its prompt, and its images and its videos, each in
    prompt order.

    `read` decodes images, so it is called only for what is not known yet. `text`: what the task
    asks, as it stands before a chat template is put around it.
    """

    item: str
    read: Callable[[], tuple[str, Sequence[Visual]]]
    text: str = ""


@dataclass(frozen=True)
class Prompt:
    """What is kept of a question: token ids int64 [length], unpadded, the digests of its images
    and videos, and how many visual tokens the images as they are have.
    """

    input_ids: Tensor
    images: tuple[str, ...]
    visual: int = 0


Inputs = Mapping[str, Tensor]
"""What a model is given of a prompt beside its token ids, as `Encoded` has it."""


@dataclass(frozen=True)
class Answer:
    """An answer and what was measured on the way to it.

    `first_token`: ids and natural log-probabilities of the most likely first tokens, best first;
    `ledger`: visual tokens entering each layer, KV rows, planned tokens, and text tokens; images,
    where the budget is that of each of several; `grids`: where its visual tokens lie, where images
    are of any size.
    """

    text: str
    new_tokens: int
    images: tuple[str, ...]
    first_token: dict[str, list]
    ledger: dict[str, Any]
    selections: list[dict[str, Any]]
    parameters: dict[str, Any]
    grids: list[dict[str, Any]] = field(default_factory=list)


class SampleError(RuntimeError):
    """A question could not be answered; the message names it and the cause."""


@dataclass
class Answerer:
    """One model pruned by one method at one budget.

    `per_image`: whether the budget is that of each image of a question, or of all together.
    `prompts` and `store` may be shared by the answerers of one model: images that the store holds
    are neither decoded nor preprocessed nor run through the tower again. Where an
    image's tokens depend on it, nothing is stored: images are encoded anew each time.
    """

    loaded: LoadedModel
    method: Method
    budget: Budget
    seed: int = 0
    store: TowerStore | None = None
    prompts: dict[str, Prompt] = field(default_factory=dict)
    per_image: bool = False

    def __post_init__(self) -> None:
        if self.method.resizes:  # its prompts have fewer tokens than those of the other cells
            self.prompts = {}

    def answer(self, questions: Sequence[Question], generation: Mapping[str, Any]) -> list[Answer]:
        """Answers in order, as one batch; `generation` as lmms-eval's tasks write it.

        Raises PruningError as `attach` does, and SampleError for anything else that goes wrong: an
        answer whose counts are not what was planned and asked for, or without a finite logit. Out
        of a GPU's memory stays what it is: fewer questions at once may fit.
        """
        try:
            return self._answer(questions, generation)
        except (PruningError, SampleError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            items = dict.fromkeys((questions[0].item, questions[-1].item))
            why = str(error) if isinstance(error, BadInput) else cause(error)
            raise SampleError(f"{' to '.join(items)}: {why}") from error

    def _answer(self, questions: Sequence[Question], generation: Mapping[str, Any]) -> list[Answer]:
        arguments, until = generate_arguments(generation)
        # under beam search transformers before 5.18 encodes the images of every beam; a method
        # inside the tower has outputs of its own
        shares = (
            arguments.get("num_beams", 1) == 1
            and not self.method.inside_tower
            and shape_of(self.loaded.model).image_tokens > 0
        )
        store = self.store if shares else None
        prompts, others = self._prompts(questions, store)
        images_each = [max(len(prompt.images), 1) if self.per_image else 1 for prompt in prompts]
        if len(set(images_each)) > 1:
            return self._apart(questions, images_each, generation)
        held = self._held_to(images_each[0])
        keys = [key for prompt in prompts for key in prompt.images]
        images = SharedImages(store, keys) if store is not None and keys else None
        model = self.loaded.model
        inputs = {**self._padded(prompts), **others}
        seeds = [sample_seed(q.item, self.seed) for q in questions]
        texts = [q.text for q in questions]
        budget = Budget(fraction=1.0) if self.method.resizes else held
        with (
            torch.no_grad(),
            attach(
                model, self.method, budget, seeds=seeds, images=images, questions=texts
            ) as trace,
        ):
            out = model.generate(
                **inputs,
                **arguments,
                pad_token_id=self._tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            )
        new = out.sequences[:, inputs["input_ids"].shape[1] :].cpu()
        said = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        prefill = trace.prefills[-1]
        copies = len(prefill.plans) // len(prompts)  # beam search runs each sample several times
        resized = [p.visual for p in prompts for _ in range(copies) if self.method.resizes]
        self._check(questions, prefill, out, held, resized)
        answers = self._measured(
            prompts, [cut_at(t, until) for t in said], new, out.logits[0], prefill, resized
        )
        if images_each[0] > 1:
            for answer in answers:
                answer.ledger["images"] = images_each[0]
        return answers

    def _apart(
        self, questions: Sequence[Question], images: Sequence[int], generation: Mapping[str, Any]
    ) -> list[Answer]:
        """In batches of equally many images, which have one budget."""
        found: dict[int, Answer] = {}
        for number in dict.fromkeys(images):
            places = [i for i, own in enumerate(images) if own == number]
            answers = self._answer([questions[i] for i in places], generation)
            found.update(zip(places, answers, strict=True))
        return [found[i] for i in range(len(questions))]

    def _held_to(self, images: int) -> Budget:
        """The budget of a question about so many images; a share of their tokens is the same."""
        if not self.per_image or self.budget.tokens is None:
            return self.budget
        return Budget(self.budget.tokens * max(images, 1))

    def _check(
        self,
        questions: Sequence[Question],
        prefill: Prefill,
        out: Any,
        budget: Budget,
        resized: Sequence[int],
    ) -> None:
        """Raises SampleError for a question whose answer must not be scored."""
        copies = len(prefill.plans) // len(questions)  # beam search runs each sample several times
        promises = broken_promises(prefill, self.method, budget, resized)[::copies]
        # NaN and infinity pass through a maximum
        largest = torch.stack([step.amax(-1) for step in out.logits], 1)[::copies].tolist()
        for i, (question, broken) in enumerate(zip(questions, promises, strict=True)):
            if broken is None and not all(map(isfinite, largest[i])):
                broken = f"the logits are not finite in {self.loaded.dtype}"
                broken += _first_not_finite(out.past_key_values, i * copies)
            if broken:
                raise SampleError(f"{question.item}: {broken}")

    @property
    def _tokenizer(self) -> Any:
        return self.loaded.processor.tokenizer

    def _prompts(
        self, questions: Sequence[Question], store: TowerStore | None
    ) -> tuple[list[Prompt], dict[str, Tensor]]:
        """Each question's prompt, and what else the batch is given."""
        read = {q.item: self._read(q) for q in questions if q.item not in self.prompts}
        self.prompts.update({item: prompt for item, (prompt, _) in read.items()})
        prompts = [self.prompts[q.item] for q in questions]
        keys = [key for prompt in prompts for key in prompt.images]
        if store is not None and not keys:
            return prompts, {}
        if store is not None and store.holds(keys, self.method.tower_reads):
            return prompts, {"pixel_values": torch.empty(len(keys), 0, device=self._device)}
        inputs = [read[q.item][1] if q.item in read else self._read(q)[1] for q in questions]
        ids = [prompt.input_ids for prompt in prompts]
        found = together(list(zip(ids, inputs, strict=True)))
        return prompts, {name: self._placed(value) for name, value in found.items()}

    def _placed(self, value: Tensor) -> Tensor:
        """On the model's device; pixels in its dtype, which would round the seconds of videos."""
        pixels = value.dim() > 1 and value.is_floating_point()
        return value.to(self._device, self.loaded.model.dtype if pixels else value.dtype)

    @property
    def _device(self) -> torch.device:
        return self.loaded.model.device

    def _read(self, question: Question) -> tuple[Prompt, Inputs]:
        text, visuals = question.read()
        loaded = self.loaded
        digests = tuple(map(_digest, visuals))
        ids, inputs = loaded.protocol.encoded(loaded.processor, loaded.model, text, visuals)
        counts = runs_of(ids == loaded.model.config.image_token_id)
        images = [visual for visual in visuals if isinstance(visual, Image.Image)]
        if self.method.resizes and len(images) < len(visuals):
            raise PruningError(f"{self.method.label} is not defined here for videos")
        if self.method.resizes and images:
            budget = self._held_to(len(images)).of(sum(counts))
            smaller = downsampled(loaded.processor, images, counts, budget)
            ids, inputs = loaded.protocol.encoded(loaded.processor, loaded.model, text, smaller)
        return Prompt(ids, digests, sum(counts)), inputs

    def _padded(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Token ids and mask int64 [batch, longest], padded on the left."""
        ids = padded([prompt.input_ids for prompt in prompts], self._tokenizer.pad_token_id)
        mask = padded([torch.ones_like(prompt.input_ids) for prompt in prompts])
        return {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}

    def _measured(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        new: Tensor,
        first: Tensor,
        prefill: Prefill,
        resized: Sequence[int],
    ) -> list[Answer]:
        copies = len(prefill.plans) // len(prompts)  # beam search runs each sample several times
        rows = range(0, len(prefill.plans), copies)
        top = first[::copies].float().log_softmax(-1).topk(min(MOST_LIKELY, first.shape[-1]))
        ids, logprobs = top.indices.tolist(), top.values.tolist()
        shape = shape_of(self.loaded.model)
        ledgers = ledgers_of(prefill, shape, resized)
        selections = selections_of(prefill)
        return [
            Answer(
                text=text,
                new_tokens=int((new[i] != self._tokenizer.pad_token_id).sum()),
                images=prompts[i].images,
                first_token=_first_token(ids[i], logprobs[i]),
                ledger=ledgers[row],
                selections=selections[row],
                parameters=dict(prefill.plans[row].parameters),
                grids=[] if shape.image_tokens else grid_bodies(prefill.sizes[row]),
            )
            for i, (row, text) in enumerate(zip(rows, texts, strict=True))
        ]


def _digest(visual: Visual) -> str:
    return image_digest(visual) if isinstance(visual, Image.Image) else video_digest(visual.frames)


def _first_not_finite(cache: Any, row: int) -> str:
    """From which layer on a sample's keys and values are not finite, where the cache tells."""
    for i, layer in enumerate(cache.layers if cache is not None else ()):
        if not (layer.keys[row].isfinite().all() and layer.values[row].isfinite().all()):
            return f", nor are keys and values from layer {i} on"
    return ""


def _first_token(ids: list[int], logprobs: list[float]) -> dict[str, list]:
    """Rounded: kernels and batches differ beyond the fourth decimal, and records stay small.

    Tokens that a task rules out have no probability, so no logarithm that a record could hold.
    """
    possible = sum(map(isfinite, logprobs))
    return {"ids": ids[:possible], "logprobs": [round(value, 4) for value in logprobs[:possible]]}


def sample_seed(item: str, seed: int) -> int:
    """The same on every machine, whatever the batch: 0 … 2^31 - 1."""
    return int.from_bytes(hashlib.sha256(f"{item}#{seed}".encode()).digest()[:4], "big") >> 1
