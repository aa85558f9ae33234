"""The embedded LLaVA from scratch: configuration, random weights, tokenizer and processor.

It is LLaVA-1.5 in small: a CLIP tower with CLS whose features come from layer -2, an MLP projector
and a Llama decoder with the 32 layers of the 7B model, so that every published layer index and
schedule holds as printed. 168 px in patches of 7 px give the 24 x 24 = 576 tokens of LLaVA-1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from harness.embedded.questions import BEGIN, END, IMAGE, PAD, SPECIAL_WORDS, WORDS
from harness.embedded.scenes import PATCH, SIDE

DECODER_LAYERS = 32
TINY_SEED = 20
MARKS = {"image_token": "<image>"}

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '</s>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """Widths and depths; the decoder's depth and the image's grid are the same in every size."""

    tower_width: int
    tower_layers: int
    tower_heads: int
    width: int
    heads: int
    feed_forward: int
    spread: float
    """Standard deviation of the decoder's random weights."""


SHIPPED = Size(160, 6, 4, 160, 5, 384, 0.02)
# wide random weights, so that attention and answers depend on the image without any training
TINY = Size(32, 3, 2, 32, 2, 48, 0.2)


def configuration(size: Size) -> LlavaConfig:
    """A LLaVA-1.5 configuration of the given size."""
    return LlavaConfig(
        vision_config=tower_configuration(size, SIDE),
        text_config=decoder_configuration(size, len(WORDS)),
        image_token_index=IMAGE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )


def tower_configuration(size: Size, side: int) -> CLIPVisionConfig:
    """A tower for images of `side` pixels."""
    return CLIPVisionConfig(
        hidden_size=size.tower_width,
        intermediate_size=4 * size.tower_width,
        num_hidden_layers=size.tower_layers,
        num_attention_heads=size.tower_heads,
        image_size=side,
        patch_size=PATCH,
        projection_dim=size.tower_width,
    )


def decoder_configuration(size: Size, words: int) -> LlamaConfig:
    """A decoder of 32 layers with so many words."""
    return LlamaConfig(
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=DECODER_LAYERS,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        vocab_size=words,
        max_position_embeddings=2048,
        initializer_range=size.spread,
        pad_token_id=PAD,
        bos_token_id=BEGIN,
        eos_token_id=END,
        tie_word_embeddings=True,
    )


def build(size: Size = SHIPPED, *, seed: int = 0) -> LlavaForConditionalGeneration:
    """A float32 model with random weights of the seed; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(configuration(size))
    model.generation_config.do_sample = False
    return model


def build_tiny() -> LlavaForConditionalGeneration:
    """A model of the same form that nothing has trained, for tests: 32 layers of width 32."""
    return build(TINY, seed=TINY_SEED).eval()


def tokenizer(
    words: tuple[str, ...] = WORDS, marks: dict[str, str] = MARKS
) -> PreTrainedTokenizerFast:
    """One token a word; "?" and "," are words even where no space parts them."""
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = Sequence([WhitespaceSplit(), Split(Regex("[?,]"), "isolated")])
    core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens=marks,
    )
    if fast.convert_tokens_to_ids(list(SPECIAL_WORDS)) != list(range(len(SPECIAL_WORDS))):
        raise RuntimeError("the tokenizer moved its special words")
    return fast


def processor() -> LlavaProcessor:
    """The processor of a saved LLaVA: images to 168 px, 576 placeholders an image, left padding."""
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer=tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )


def save(model: LlavaForConditionalGeneration, directory: Path) -> None:
    """Writes model (bfloat16) and processor as a directory that the Auto classes load."""
    copy = LlavaForConditionalGeneration(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.bfloat16().save_pretrained(directory)
    processor().save_pretrained(directory)
