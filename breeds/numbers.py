"""Whole numbers in texts that anybody may have sent."""

from collections.abc import Iterable

MOST = 2**63 - 1  # the largest key of a row


def whole_number(text: str | None, most: int = MOST) -> int | None:
    """The number that `text` consists of; None for other text and for a number above `most`.

    Only ASCII digits count: `int` also takes signs, spaces, underscores and the digits of other scripts, and raises an
    error for thousands of digits.
    """
    if not text or not text.isascii() or not text.isdecimal() or len(text) > len(str(MOST)):
        return None
    number = int(text)
    return number if number <= most else None


def whole_numbers(texts: Iterable[str]) -> list[int]:
    """The numbers among `texts`, in their order."""
    return [number for number in map(whole_number, texts) if number is not None]
