"""Tables as notebooks show them: what `_repr_html_` returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_CELL = "text-align: left"


def html_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, notes: Sequence[object] = ()
) -> str:
    """A table with a title above and notes below it. Everything is text and escaped; None is an empty cell."""
    head = "".join(f'<th style="{_CELL}">{_text(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{_text(cell)}</td>' for cell in row) + "</tr>\n" for row in rows
    )
    below = "".join(f"<div>{_text(note)}</div>\n" for note in notes if note)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n" if columns else ""
    return f"<div><strong>{_text(title)}</strong></div>\n{table}{below}"


def _text(value: object) -> str:
    from html import escape  # late: a reader has no use for it

    return "" if value is None else escape(str(value))
