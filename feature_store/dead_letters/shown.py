"""Dead letters as they are shown: of a source with personal data, why they were rejected and their form, nothing they held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from feature_store.masked import masked_payload, masked_reason
from feature_store.schema import arrow_schema

if TYPE_CHECKING:
    from feature_store.dead_letters.letters import Letter, LetterCount
    from feature_store.registry import Registry


class LetterText(NamedTuple):
    """A letter in words."""

    reason: str
    payload: str
    is_masked: bool


def letter_text(registry: Registry, letter: Letter, *, reveal: bool) -> LetterText:
    """One letter; `reveal` shows personal data too."""
    payload = letter.payload.decode(errors="backslashreplace")
    return (
        LetterText(letter.reason, payload, is_masked=False)
        if reveal
        else shown_text(registry, letter.source, letter.reason, payload)
    )


def shown_text(registry: Registry, source: str, reason: str, payload: str) -> LetterText:
    """A rejected record of a source, as text."""
    if not _hides(registry, source):
        return LetterText(reason, payload, is_masked=False)
    return LetterText(shown_reason(registry, source, reason), masked_payload(payload), is_masked=True)


def shown_reason(registry: Registry, source: str, reason: str) -> str:
    """Why a record of a source was rejected."""
    if not _hides(registry, source):
        return reason
    declared = registry.sources.get(source)
    return masked_reason(reason, known=() if declared is None else arrow_schema(declared).names)


def shown_reasons(registry: Registry, source: str, counted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons with their counts, the most frequent first; what looks the same without its values is one."""
    together: dict[str, int] = {}
    for reason, letters in counted.items():
        shown = shown_reason(registry, source, reason)
        together[shown] = together.get(shown, 0) + letters
    return sorted(together.items(), key=lambda each: -each[1])


def shown_counts(registry: Registry, counts: Sequence[LetterCount]) -> list[LetterCount]:
    """The same of counts by source, kind and reason."""
    together: dict[tuple[str, str, str], LetterCount] = {}
    for count in counts:
        shown = replace(count, reason=shown_reason(registry, count.source, count.reason))
        key = (shown.source, shown.kind, shown.reason)
        together[key] = _sum(together[key], shown) if key in together else shown
    return sorted(together.values(), key=lambda count: -count.letters)


def _sum(one: LetterCount, other: LetterCount) -> LetterCount:
    newest = max(one, other, key=lambda count: count.last_us or 0)
    firsts = [count.first_us for count in (one, other) if count.first_us is not None]
    return replace(
        newest,
        letters=one.letters + other.letters,
        replayed=one.replayed + other.replayed,
        first_us=min(firsts, default=None),
        example=newest.example or one.example or other.example,
    )


def _hides(registry: Registry, source: str) -> bool:
    """Whether a source may hold personal data: of one that is declared no more, nobody knows."""
    return source not in registry.sources or registry.is_personal(source)
