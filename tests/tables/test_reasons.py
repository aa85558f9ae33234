"""Why rows are empty is said once."""

from harness.tables.reasons import gathered


def test_methods_that_are_not_defined_for_the_same_thing_share_a_line():
    lines = gathered(
        [
            ("A", "192 tokens", "a is not defined here for videos"),
            ("B", "192 tokens", "infeasible (200–576)"),
            ("C", "192 tokens", "C is not defined here for videos"),
            ("D", "192 tokens", "D is not defined here for tiles"),
            ("A", "64 tokens", "a is not defined here for videos"),
        ]
    )
    assert lines == [
        "B, 192 tokens: infeasible (200–576)",
        "Not defined for videos: A, C",
        "Not defined for tiles: D",
    ]
