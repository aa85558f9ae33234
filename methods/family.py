"""What a family of models owes to the runtime: where its parts are, and the arithmetic on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from methods.attention import QueriesKeys
from methods.encoding import Encoded
from methods.errors import PruningError
from methods.sizes import ModelShape, Segment, Sizes

KINDS = ("image", "video")


@dataclass(frozen=True)
class EncoderCall:
    """One call of the body's `get_image_features` or `get_video_features`: of which of `KINDS`, its
    `arguments` by name, and what it returned.
    """

    kind: str
    arguments: Mapping[str, Any]
    output: Any

    @property
    def pixels(self) -> Tensor:
        """The first argument, which releases name differently."""
        return next(iter(self.arguments.values()))


class Adapter(ABC):
    """Names the parts of one model, and changes nothing.

    B samples or images, L sequence places, D hidden width, H heads, d head width. States are in
    the model's dtype. Making one raises PruningError for a configuration that is not supported.
    """

    tower_stages: ClassVar[str] = "nothing is built for its vision tower"
    """Why methods with stages in the tower are refused, unless it is a `TowerAdapter`."""

    position_axes: ClassVar[int] = 1
    """Position ids of a token: 1, or 3 where an image's have time, height and width."""

    def __init__(self, model: Any) -> None:
        self.model = model

    # --- language model ---------------------------------------------------------------------

    @property
    @abstractmethod
    def body(self) -> Any:
        """The model without its head: gets `input_ids`, and has `get_image_features`, and
        `get_video_features` where it takes videos.
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
        """cos and sin [B, L, d] of position ids int64 [B, L], or [axes, B, L] where positions have
        several, in the dtype of `hidden`.
        """

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

    def added(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], tuple[Tensor, ...]]:
        """The text model's arguments without what it adds to the output of its first layers, and
        that: [B, L, D] a layer.
        """
        return kwargs, ()

    # --- images -----------------------------------------------------------------------------

    @abstractmethod
    def kinds(self, input_ids: Tensor) -> Tensor:
        """uint8 [B, L]: 0 where the prompt's ids int64 [B, L] are text, else 1 + the place in
        `KINDS` of what stands there.
        """

    @abstractmethod
    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        """Segments of each image or video that was encoded, in the order of their tokens.

        Raises PruningError for what is not supported.
        """

    def sizes_of(self, segments: tuple[Segment, ...]) -> Sizes:
        """Sizes of a sample with these segments."""
        return Sizes(len(self.layers), segments)

    def sizes(self, tokens: int) -> Sizes:
        """Sizes of a sample with this many visual tokens, all of whole images.

        Raises PruningError for any other count, and where one image has more tokens than another.
        """
        raise PruningError(f"how many tokens an image has in a {self.name} depends on its size")

    def shape(self) -> ModelShape:
        """The integers that costs are computed from. Raises PruningError where none are known."""
        raise PruningError(f"what a {self.name} costs is not computed yet")

    def tower_shape(self) -> dict[str, int]:
        """The fields of `ModelShape` that hold for images of any size; none where not known."""
        return {}

    def encoded(self, segment: Segment) -> Encoded | None:
        """What tower and projector compute for a segment; None where that is not known."""
        return None

    @property
    @abstractmethod
    def tower(self) -> nn.Module:
        """The vision tower."""

    @property
    def towers(self) -> tuple[nn.Module, ...]:
        """All towers, where there is one for each kind."""
        return (self.tower,)

    @property
    @abstractmethod
    def has_cls(self) -> bool:
        """Whether the tower has a CLS row."""

    @property
    @abstractmethod
    def projector(self) -> nn.Module | None:
        """What makes the language model's embeddings of the tower's features; None where that is a
        part of the tower.
        """

    @abstractmethod
    def attention(self, layer: Any) -> nn.Module:
        """The attention module of a tower or decoder layer, which asks transformers' registry for
        its kernel.
        """

    def decoder_mlp(self, layer: Any) -> tuple[nn.Module, nn.Module]:
        """Of a decoder layer: the norm before its MLP, and the MLP, whose result is added to what
        the norm was given and leaves the layer. Only for methods that cut inside layers.
        """
        raise PruningError(f"inside its decoder's layers a {self.name} is not cut")

    @property
    def name(self) -> str:
        """Of the model's class."""
        return type(self.model).__name__


ADAPTERS: dict[str, type[Adapter]] = {}
"""By the name of the model class."""
REFUSED: dict[str, str] = {}
"""Why a model class cannot be pruned, by its name."""
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
