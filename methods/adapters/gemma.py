"""Gemma 3 and PaliGemma, which cannot be pruned yet."""

from methods.family import REFUSED

_BOTH_WAYS = "its image tokens see one another both ways, and masks are made anew as causal ones"
REFUSED["Gemma3ForConditionalGeneration"] = _BOTH_WAYS
REFUSED["PaliGemmaForConditionalGeneration"] = _BOTH_WAYS
