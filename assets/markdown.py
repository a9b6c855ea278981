"""Tables as Dagster's pages show them."""

from collections.abc import Iterable, Sequence

LONGEST_CELL = 60


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; cells are shortened to what a page can show."""
    lines = [_line(columns), _line(["---"] * len(columns)), *(_line([_cell(value) for value in row]) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    text = "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
