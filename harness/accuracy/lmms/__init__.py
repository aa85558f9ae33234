"""Registers the pruned model with lmms-eval, whose own users then run `--model pruned`.

The entry point names `manifest`; importing this module imports nothing of lmms-eval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """What lmms-eval must know to load the model by name."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="pruned",
        chat_class_path="harness.accuracy.lmms.model.PrunedModel",
        simple_class_path="harness.accuracy.lmms.model.SimplePrunedModel",
    )
