"""Whole numbers in texts that anybody may have sent."""

import pytest

from breeds.numbers import whole_number, whole_numbers


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("7", 7), ("007", 7), ("9223372036854775807", 2**63 - 1), ("1" * 19, int("1" * 19))]
)
def test_a_text_of_digits_is_a_whole_number(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        None, "", " ", "٣", "３", "³", "①", "½", "-1", "+1", "1.0", "1e3", "1_000", "1,000", " 1", "1 ", "1\n", "0x1",
        "1" * 5000, "9223372036854775808", "0" * 20, "one",
    ],
)  # fmt: skip
def test_any_other_text_is_none(text):
    assert whole_number(text) is None


@pytest.mark.parametrize(("text", "number"), [("199", 199), ("200", 200), ("201", None), ("1" * 5000, None)])
def test_a_number_above_the_most_is_none(text, number):
    assert whole_number(text, 200) == number


def test_texts_that_are_no_numbers_are_left_out():
    assert whole_numbers(["12", "²", "", "3", "x"]) == [12, 3]
