"""Answers of a model to questions about images while one method prunes it.

What every cell of a comparison would do again is kept: a question's token ids and its images' keys,
and in the store what the vision tower made of each image. Knows nothing of tasks or of lmms-eval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from harness.accuracy.batches import padded, together
from harness.accuracy.decoding import generate_arguments
from harness.accuracy.downsampling import downsampled, runs_of
from harness.accuracy.generated import Answer, Generated
from harness.accuracy.prompts import Inputs, Prompt, Question, digest_of
from harness.errors import BadInput, cause
from harness.models.load import LoadedModel
from harness.models.shapes import shape_of
from methods import Budget, Method, PruningError, attach
from methods.encoded_batches import EncodedBatches, Keys, SharedBatch
from methods.sharing import SharedImages, TowerStore


class SampleError(RuntimeError):
    """A question could not be answered; the message names it and the cause."""


@dataclass
class Answerer:
    """One model pruned by one method at one budget.

    `per_image`: whether the budget is that of each image of a question, or of all together.
    `prompts` and `store` may be shared by the answerers of one model: images that the store holds
    are neither decoded nor preprocessed nor run through the tower again. Where an image's tokens
    depend on it, `batches` are in its place, for methods that read nothing of the tower.
    """

    loaded: LoadedModel
    method: Method
    budget: Budget
    seed: int = 0
    store: TowerStore | None = None
    batches: EncodedBatches | None = None
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
        store, batches = self._shared(arguments)
        prompts, others = self._prompts(questions, store, batches)
        images_each = [max(len(prompt.images), 1) if self.per_image else 1 for prompt in prompts]
        if len(set(images_each)) > 1:
            return self._apart(questions, images_each, generation)
        held = self._held_to(images_each[0])
        inputs = {**self._padded(prompts), **others}
        images: SharedImages | SharedBatch | None = None
        if store is not None and (keys := [key for prompt in prompts for key in prompt.images]):
            images = SharedImages(store, keys)
        elif batches is not None:
            images = SharedBatch(batches, _keys(prompts))
        given = self._generated(questions, prompts, held, images, {**inputs, **arguments})
        if isinstance(images, SharedBatch):
            images.store.put(images.keys, others, images.made)
        for question, fault in zip(questions, given.faults(held), strict=True):
            if fault:
                raise SampleError(f"{question.item}: {fault}")
        answers = given.answers(until)
        if images_each[0] > 1:
            for answer in answers:
                answer.ledger["images"] = images_each[0]
        return answers

    def _shared(
        self, arguments: Mapping[str, Any]
    ) -> tuple[TowerStore | None, EncodedBatches | None]:
        """Where outputs of the encoder may be kept: under beam search transformers before 5.18
        encodes those of every beam, and a method inside the tower has outputs of its own.
        """
        if arguments.get("num_beams", 1) > 1 or self.method.inside_tower:
            return None, None
        if shape_of(self.loaded.model).image_tokens > 0:
            return self.store, None
        return None, self.batches if SharedBatch.serves(self.method) else None

    def _generated(
        self,
        questions: Sequence[Question],
        prompts: Sequence[Prompt],
        held: Budget,
        images: SharedImages | SharedBatch | None,
        arguments: Mapping[str, Any],
    ) -> Generated:
        seeds = [sample_seed(q.item, self.seed) for q in questions]
        texts = [q.text for q in questions]
        model, method = self.loaded.model, self.method
        budget = Budget(fraction=1.0) if method.resizes else held
        with (
            torch.no_grad(),
            attach(model, method, budget, seeds=seeds, images=images, questions=texts) as trace,
        ):
            out = model.generate(
                **arguments,
                pad_token_id=self._tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            )
        return Generated(self.loaded, method, prompts, out, trace.prefills[-1])

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

    @property
    def _tokenizer(self) -> Any:
        return self.loaded.processor.tokenizer

    def _prompts(
        self,
        questions: Sequence[Question],
        store: TowerStore | None,
        batches: EncodedBatches | None,
    ) -> tuple[list[Prompt], Mapping[str, Tensor]]:
        """Each question's prompt, and what else the batch is given."""
        read = {q.item: self._read(q) for q in questions if q.item not in self.prompts}
        self.prompts.update({item: prompt for item, (prompt, _) in read.items()})
        prompts = [self.prompts[q.item] for q in questions]
        keys = [key for prompt in prompts for key in prompt.images]
        if store is not None and not keys:
            return prompts, {}
        if store is not None and store.holds(keys, self.method.tower_reads):
            return prompts, {"pixel_values": torch.empty(len(keys), 0, device=self._device)}
        if batches is not None and (known := batches.inputs(_keys(prompts))) is not None:
            return prompts, known
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
        digests = tuple(map(digest_of, visuals))
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


def _keys(prompts: Sequence[Prompt]) -> Keys:
    return tuple(prompt.images for prompt in prompts)


def sample_seed(item: str, seed: int) -> int:
    """The same on every machine, whatever the batch: 0 … 2^31 - 1."""
    return int.from_bytes(hashlib.sha256(f"{item}#{seed}".encode()).digest()[:4], "big") >> 1
