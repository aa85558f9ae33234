"""Which crop, row and column a visual token comes from: held to what the models put together."""

from __future__ import annotations

import pytest
import torch
from tiny_families import FAMILIES
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from methods.adapters import adapter_for
from methods.family import EncoderCall
from methods.sizes import Crops, Newline, Segment

SIZES = [(height, width) for height in range(11, 120, 9) for width in range(13, 120, 7)]


def coded(crops: int, side: int) -> Tensor:
    """Features [crops, side², 4] that say from which crop, frame 0, row and column they are."""
    places = torch.cartesian_prod(torch.arange(crops), torch.arange(1), *[torch.arange(side)] * 2)
    return places.float().reshape(crops, side**2, 4)


def packed(model, size: tuple[int, int], crops: int, **options) -> Tensor:
    """Coded features of an image of this height and width, as the model puts them together."""
    config = model.config
    side = config.vision_config.image_size // config.vision_config.patch_size
    (rows,), _ = model.model.pack_image_features(
        [coded(crops, side)], torch.tensor([size]), image_newline=-torch.ones(4), **options
    )
    return rows


def crops_of(model, size: tuple[int, int]) -> int:
    config = model.config
    return image_size_to_num_patches(
        size, config.image_grid_pinpoints, config.vision_config.image_size
    )


def grid_of(model, size: tuple[int, int], **more) -> tuple[list[Segment], Tensor]:
    """Segments of an image of this height and width, and the grid [tokens, 4] of all its tokens."""
    call = EncoderCall("image", {"image_sizes": torch.tensor([size]), **more}, None)
    (segments,) = adapter_for(model).segments(call)
    places = [place for segment in segments for place in segment.grid()]
    return list(segments), torch.tensor(places).float()


def test_tokens_of_llava_next():
    model, _ = FAMILIES["llava_next"]()
    for size in SIZES:
        segments, grid = grid_of(model, size)
        found = packed(model, size, crops_of(model, size), vision_feature_select_strategy="default")
        assert torch.equal(grid, found), size
        assert sum(segment.tokens for segment in segments) == len(found)


def test_tokens_of_onevision():
    model, _ = FAMILIES["onevision"]()
    ratio, resampled = model.config.vision_aspect_ratio, 0
    for size in SIZES:
        (whole, picture), grid = grid_of(model, size)
        found = packed(model, size, crops_of(model, size), vision_aspect_ratio=ratio)
        assert len(grid) == whole.tokens + picture.tokens == len(found), size
        newlines = (found == -1).all(1)
        assert torch.equal((grid == -1).all(1), newlines)
        if picture.resampled:
            resampled += 1
            assert (grid[whole.tokens :, 0] == -1).all()
            assert torch.equal(grid[: whole.tokens], found[: whole.tokens])
        else:
            assert torch.equal(grid, found), size
    assert 0 < resampled < len(SIZES) / 2


def test_one_of_several_images_is_not_cut_into_crops():
    model, _ = FAMILIES["onevision"]()
    sizes = torch.tensor([[40, 60], [60, 25], [55, 50]])
    arguments = {"image_sizes": sizes, "batch_num_images": torch.tensor([2, 1])}
    first, second, third = adapter_for(model).segments(EncoderCall("image", arguments, None))
    ratio = model.config.vision_aspect_ratio
    found = packed(model, (40, 60), 1, vision_aspect_ratio=ratio)
    assert first == second == (Segment(5, 5, has_cls=False, newline=Newline.END),)
    assert torch.equal(torch.tensor(first[0].grid()).float(), found)
    assert len(third) == 2


def test_a_video_is_frames_of_rows_and_then_its_newline():
    video = Segment(2, 3, 2, "video", newline=Newline.END)
    assert video.grid()[:4] == ((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2), (0, 0, 1, 0))
    assert video.grid()[6] == (0, 1, 0, 0)
    assert video.grid()[-1] == (-1, -1, -1, -1)
    assert len(video.grid()) == video.tokens == 13


def test_a_frame_of_video_llava_begins_with_its_cls_row():
    video = Segment(2, 3, 2, "video", newline=Newline.FRAME)
    grid = video.grid()
    assert grid[0] == grid[7] == (-1, -1, -1, -1)
    assert (grid[1], grid[6], grid[8]) == ((0, 0, 0, 0), (0, 0, 1, 2), (0, 1, 0, 0))
    assert (len(grid), video.frame_tokens) == (video.tokens, 7) == (14, 7)


@pytest.mark.parametrize(
    ("name", "frames", "tokens"), [("video_llava", 8, 2056), ("llava_next_video", 8, 1152)]
)
def test_tokens_of_a_video_at_the_published_size(monkeypatch, name, frames, tokens):
    model, _ = FAMILIES[name]()
    pixels = {"video_llava": 224, "llava_next_video": 336}[name]
    monkeypatch.setattr(model.config.vision_config, "image_size", pixels)
    monkeypatch.setattr(model.config.vision_config, "patch_size", 14)
    videos = {"pixel_values_videos": torch.empty(2, frames, 3, 1, 1)}
    found = adapter_for(model).segments(EncoderCall("video", videos, None))
    assert [[segment.tokens for segment in own] for own in found] == [[tokens]] * 2


def test_frames_of_qwen3_are_numbered_within_their_video():
    model, inputs = FAMILIES["qwen3_vl_video"]()
    call = EncoderCall("video", {"video_grid_thw": inputs["video_grid_thw"]}, None)
    segments = [segment for own in adapter_for(model).segments(call) for segment in own]
    assert [segment.frame for segment in segments] == [0, 1, 2, 0, 1]
    assert [segment.grid()[0][1] for segment in segments] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (1000, 1000), (899, 1024), (300, 1200)])
def test_tokens_at_the_published_size(size):
    """Of LLaVA-NeXT, with crops of 24 × 24 tokens and its five resolutions."""
    model, _ = FAMILIES["llava_next"]()
    adapter = adapter_for(model)
    published = {(480, 640): 2340, (640, 480): 2352, (1000, 1000): 2928, (899, 1024): 2634}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.config.vision_config, "image_size", 336)
        patch.setattr(model.config.vision_config, "patch_size", 14)
        pins = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
        patch.setattr(model.config, "image_grid_pinpoints", pins)
        picture = adapter.picture(size)
        tokens = adapter.whole().tokens + picture.tokens
    assert tokens == published.get(size, 1890)
    assert isinstance(picture.crops, Crops)
