"""What a family of models owes to the runtime: where its parts are, and the arithmetic on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from methods.attention import QueriesKeys
from methods.errors import PruningError
from methods.sizes import ModelShape, Sizes


class Adapter(ABC):
    """Names the parts of one model, and changes nothing.

    B samples or images, L sequence places, D hidden width, H heads, d head width. States are in
    the model's dtype. Making one raises PruningError for a configuration that is not supported.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    # --- language model ---------------------------------------------------------------------

    @property
    @abstractmethod
    def body(self) -> Any:
        """The model without its head: gets `input_ids`, and has `get_image_features`, whose
        `pooler_output` is a tensor [n, D] an image.
        """

    @property
    @abstractmethod
    def text_model(self) -> Any:
        """The decoder: gets `inputs_embeds` [B, L, D] and the KV cache."""

    @property
    @abstractmethod
    def text_config(self) -> Any:
        """Its configuration, from which transformers makes its masks."""

    @property
    @abstractmethod
    def layers(self) -> Sequence[Any]:
        """The decoder layers that really run: each gets hidden states [B, L, D] first."""

    @property
    @abstractmethod
    def norm(self) -> nn.Module:
        """The norm after the last decoder layer."""

    @property
    @abstractmethod
    def head(self) -> nn.Module:
        """What makes logits of the decoder's states."""

    @property
    @abstractmethod
    def window(self) -> int | None:
        """Tokens that a decoder layer with a sliding window attends to; None without such layers.

        Raises PruningError for layers that attend in yet another way.
        """

    @property
    @abstractmethod
    def inverse_frequencies(self) -> Tensor:
        """RoPE's angle per position, float32 [d / 2]."""

    @abstractmethod
    def rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [B, L, d] of position ids int64 [B, L], in the dtype of `hidden`."""

    @abstractmethod
    def unrotated(self, states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """States [B, H, r, d] as they were before RoPE by cos and sin [B, r, d]: float32."""

    @abstractmethod
    def queries_keys(
        self, layer: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], rows: Tensor
    ) -> QueriesKeys:
        """What a decoder layer makes of the states [B, L, D] entering it, after RoPE: q of `rows`
        int64 [B, r] and k of all.
        """

    # --- vision tower -----------------------------------------------------------------------

    @property
    @abstractmethod
    def tower(self) -> nn.Module:
        """The vision tower, called once for all images of a batch."""

    @property
    @abstractmethod
    def vision_config(self) -> Any:
        """Its configuration, from which transformers makes its masks."""

    @property
    @abstractmethod
    def tower_layers(self) -> Sequence[Any]:
        """The tower's layers: each gets hidden states [B, rows, D] first, CLS in row 0."""

    @property
    @abstractmethod
    def has_cls(self) -> bool:
        """Whether the tower has a CLS row."""

    @property
    @abstractmethod
    def feature_place(self) -> int:
        """Which of the tower's layers, counted from 0, puts out the features."""

    @abstractmethod
    def tower_mlp(self, layer: Any) -> tuple[nn.Module, nn.Module]:
        """Of a tower layer: the norm before its MLP, and the MLP, whose result is added to what
        the norm was given and leaves the layer.
        """

    @property
    @abstractmethod
    def projector(self) -> nn.Module:
        """What makes the language model's embeddings of the tower's features."""

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Tower features [B, n, width] to the language model's embeddings [B, n, D]."""

    # --- both -------------------------------------------------------------------------------

    @abstractmethod
    def attention(self, layer: Any) -> nn.Module:
        """The attention module of a tower or decoder layer, which asks transformers' registry for
        its kernel.
        """

    @abstractmethod
    def visual(self, input_ids: Tensor) -> Tensor:
        """bool [B, L]: where image tokens stand among the prompt's ids int64 [B, L]."""

    @abstractmethod
    def sizes(self, tokens: int) -> Sizes:
        """Sizes of a sample with this many visual tokens, all of whole images.

        Raises PruningError for any other count.
        """

    @abstractmethod
    def shape(self) -> ModelShape:
        """The integers that costs are computed from."""


ADAPTERS: dict[str, type[Adapter]] = {}
"""By the name of the model class."""
Own = TypeVar("Own", bound=type[Adapter])


def adapter(model_class: str) -> Callable[[Own], Own]:
    """Class decorator: make the adapter known for models whose class has this name.

    Raises PruningError where another adapter has it.
    """

    def add(own: Own) -> Own:
        if model_class in ADAPTERS:
            raise PruningError(f"model class {model_class!r} has an adapter already")
        ADAPTERS[model_class] = own
        return own

    return add
