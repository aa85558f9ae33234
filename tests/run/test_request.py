"""What a request asks for, and which of its budgets cannot be met."""

from __future__ import annotations

import pytest
from stand_ins import asked

from harness.cli.words import parse_budgets, parse_methods
from harness.errors import BadInput
from harness.records.cell import Cell, MethodSpec
from harness.run.request import infeasible_cells


def llava_sizes():
    from methods.interface import Segment, Sizes

    return Sizes(32, (Segment(24, 24),))


def test_which_cells_are_infeasible_and_what_would_be_feasible(tmp_path):
    request = asked(tmp_path, budgets=(576, 20), controls=True)
    found = infeasible_cells(request, llava_sizes())
    assert found == {Cell(MethodSpec("fastv"), 20): (37, 576)}


def test_a_method_that_is_not_defined_for_an_image_leaves_the_others_alone(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv,dycoke"), budgets=(64,))
    assert infeasible_cells(request, llava_sizes()) == {
        Cell(MethodSpec("dycoke"), 64): (None, None)
    }


def test_a_budget_that_no_requested_method_meets_is_refused(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv"), budgets=(64, 20), controls=True)
    with pytest.raises(BadInput, match=r"20 is infeasible for every requested method; .*37 to 576"):
        infeasible_cells(request, llava_sizes())


def test_a_budget_above_the_images_tokens_is_refused(tmp_path):
    request = asked(tmp_path, budgets=(577, 64))
    with pytest.raises(BadInput, match="budget 577 is above the image's 576 visual tokens"):
        infeasible_cells(request, llava_sizes())


def test_method_lists():
    from methods.registry import methods

    every = {spec.name for spec in parse_methods("all")}
    of_others = {"dycoke", "framefusion", "fastvid", "vidcom2", "frames", "downsample"}
    assert every == set(methods()) - {"unpruned"} - of_others
    twice = parse_methods("fastv,fastv:schedule=matched,unpruned,fastv")
    assert [spec.text for spec in twice] == ["fastv"]
    assert [s.text for s in parse_methods("all,fastv:layer=3")][-1] == "fastv:layer=3"


def test_budget_lists():
    assert parse_budgets("64, 192,64") == (192, 64)
