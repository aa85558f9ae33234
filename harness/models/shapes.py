"""The integers of a model that costs and plans are computed from, as far as they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.sizes import ModelShape, Sizes


def shape_of(model: Any) -> ModelShape:
    """Of all the model; where an image's tokens depend on the image, with zeros for what is of one
    image, and for the whole tower where it is not known what that costs.
    """
    from methods.adapters import adapter_for
    from methods.family import Adapter
    from methods.sizes import ModelShape

    adapter = adapter_for(model)
    if type(adapter).shape is not Adapter.shape:
        return adapter.shape()
    text = adapter.text_config
    return ModelShape(
        layers=len(adapter.layers),
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        attention_heads=text.num_attention_heads,
        key_value_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        **dict.fromkeys(_OF_AN_IMAGE, 0) | adapter.tower_shape(),
    )


_OF_AN_IMAGE = (
    *("tower_layers", "tower_width", "tower_heads", "tower_intermediate", "tower_rows"),
    *("patch_values", "projector_inner", "image_tokens"),
)


def recorded_shape(model: Any) -> dict[str, int]:
    """`shape_of` as records hold it: only what is known."""
    return {name: value for name, value in vars(shape_of(model)).items() if value}


def sizes_of(model: Any, images: int) -> Sizes | None:
    """Of a sample with so many images; None where they depend on the images."""
    from methods.adapters import adapter_for

    tokens = images * shape_of(model).image_tokens
    return adapter_for(model).sizes(tokens) if tokens else None
