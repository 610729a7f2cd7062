"""Problems in the order in which people look them up."""

from __future__ import annotations

from tintype.data.sources.pairs import Problem, sorted_problems


def test_lines_of_a_file_are_sorted_as_numbers() -> None:
    paths = ["a.png", "metadata.csv", "metadata.csv:2", "metadata.csv:9", "metadata.csv:10", "metadata.csv:x", "z:1"]
    scrambled = [Problem(path, "reason") for path in [*paths[::-2], *paths[-2::-2]]]
    assert [problem.path for problem in sorted_problems(scrambled)] == paths


def test_a_name_with_an_endless_number_is_only_a_name() -> None:
    paths = [f"a:{'9' * 10_000}", "b", ":7"]
    assert {problem.path for problem in sorted_problems(Problem(path, "reason") for path in paths)} == set(paths)
