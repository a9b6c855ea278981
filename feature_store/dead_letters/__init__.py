"""Dead letters: records that were no events, or not new ones. Counted, looked at, and published again after a fix."""

from feature_store.dead_letters.letters import (
    KINDS,
    LETTERS,
    Letter,
    LetterCount,
    Replayed,
    Wanted,
    count_letters,
    find_letter,
    place_name,
    place_of,
    replay,
)

__all__ = [
    "KINDS",
    "LETTERS",
    "Letter",
    "LetterCount",
    "Replayed",
    "Wanted",
    "count_letters",
    "find_letter",
    "place_name",
    "place_of",
    "replay",
]
