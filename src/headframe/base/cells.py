"""Text in the cells of a CSV file that people open in a spreadsheet."""

from __future__ import annotations

# What makes a spreadsheet take a cell for a formula (OWASP, CSV injection), wide forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


def text_cell(text: str) -> str:
    """The text, behind an apostrophe where it would be taken for a formula. Not for numbers: `-5` is one.

    A carriage return, by which some readers take the row to end, becomes a line feed, which writers quote.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(_FORMULA) else text
