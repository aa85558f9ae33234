"""Every registered method keeps the contract; a new one is tested as soon as it is registered."""

from __future__ import annotations

import contract
import pytest
from of_images import OF_ONE_IMAGE
from small_models import make_prompts, small_llava

from methods import get_method

METHODS = {
    **{name: get_method(name) for name in OF_ONE_IMAGE},
    "sparsevlm:variant=plus": get_method("sparsevlm", variant="plus"),
    "vitcop:original_positions": get_method("vitcop", original_positions=True),
    "fastv:rope=false": get_method("fastv", rope=False),
    "prumerge:variant=plus": get_method("prumerge", variant="plus"),
}
# whatever is asked for
PUBLISHED = {
    "v2drop": get_method("v2drop", schedule="published"),
    "dart": get_method("dart", schedule="published", max_tokens=20),
    "vscan": get_method("vscan", schedule="published", tower_layer=0),
}
SMALL = small_llava()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_the_contract(model, prompts, check, name):
    check(METHODS[name], model, prompts)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    "check",
    [contract.counts_are_the_plans, contract.a_batch_gives_what_singles_give],
    ids=lambda check: check.__name__,
)
def test_published_schedules(prompts, check, name):
    check(PUBLISHED[name], small_llava(layers=24), prompts)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "unpruned"])
def test_the_ends_of_the_range(model, prompts, name):
    contract.the_ends_of_the_range_are_met(METHODS[name], model, prompts)


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if contract.ignores_new_text(method, SMALL)]
)
def test_decoding_without_a_cache(model, prompts, name):
    contract.decoding_without_a_cache_is_the_same(METHODS[name], model, prompts)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, method in METHODS.items()
        if contract.only_drops(method, SMALL, make_prompts())
    ],
)
def test_removed_equals_masked(model, prompts, name):
    contract.removed_equals_masked(METHODS[name], model, prompts)
