"""Checkpoints by their name on the Hugging Face hub: found in its cache, or downloaded into it."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from harness.errors import BadInput, blamed
from harness.models.files import DIGESTED

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")


def is_hub_name(name: str) -> bool:
    """Whether `name` is written ORG/NAME or ORG/NAME@REVISION."""
    return _NAME.fullmatch(name) is not None


def pinned(name: str) -> str:
    """ORG/NAME@COMMIT, which names the same files for good. Raises BadInput as `snapshot` does."""
    return f"{name.partition('@')[0]}@{snapshot(name).name}"


@cache
def snapshot(name: str) -> Path:
    """The directory with the files of a revision, of `main` if none is named.

    As the hub's own tools have it: the newest commit, downloaded where the hub can be reached;
    else what the cache holds. Looked up once a process. Raises BadInput.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    with blamed(f"the model {name} cannot be had from the Hugging Face hub"):
        try:
            return Path(
                snapshot_download(
                    repository,
                    revision=revision or None,
                    allow_patterns=[f"*{suffix}" for suffix in DIGESTED],
                    ignore_patterns="*/*",
                )
            )
        except LocalEntryNotFoundError as error:
            # what is not whole by the hub's list may hold all that a model needs
            if found := getattr(error, "snapshot_path", None):
                return Path(found)
            raise BadInput(_not_there(repository, revision)) from error
        except RevisionNotFoundError as error:
            raise BadInput(f"{repository} has no revision {revision!r} on the hub") from error
        except RepositoryNotFoundError as error:
            raise BadInput(
                f"unknown model {name!r}: no such directory, and no model of that name on the "
                "Hugging Face hub that can be read with this login"
            ) from error


def _not_there(repository: str, revision: str) -> str:
    from huggingface_hub import constants

    cached = [
        path.name.split("--", 1)[1] for path in Path(constants.HF_HUB_CACHE).glob("models--*")
    ]
    cached = [name.replace("--", "/") for name in cached]
    where = f"in the Hugging Face cache {constants.HF_HUB_CACHE}, and the hub cannot be reached"
    if repository in cached:
        return f"revision {revision or 'main'!r} of {repository} is not {where}"
    near = get_close_matches(repository, cached, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"unknown model {repository!r}: no such directory, and not {where}{guess or ';'} "
        f"`hf download {repository}` fills the cache where there is a network"
    )
