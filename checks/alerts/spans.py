"""Days that are left to be mended: ranges from which other ranges are taken away."""

from collections.abc import Sequence
from datetime import timedelta

from feature_store_deploy.checks.window import Days

_DAY = timedelta(days=1)


def without(left: Sequence[str], days: str) -> list[str]:
    """What is left of some ranges when `days` are done; '' stands for how things are now, which no days cover.

    >>> without(["2024-03-01/2024-03-31"], "2024-03-02/2024-03-30")
    ['2024-03-01', '2024-03-31']
    >>> without(["2024-03-02"], "2024-03-03"), without([""], ""), without([""], "2024-03-02")
    (['2024-03-02'], [], [''])

    A partition that is no day, of an asset that is not ours, is done by itself alone.

    >>> without(["europe"], "asia"), without(["europe"], "europe")
    (['europe'], [])
    """
    return [rest for held in left for rest in _without(held, days)]


def _without(held: str, days: str) -> list[str]:
    if held == days:
        return []
    outer, inner = _parsed(days), _parsed(held)
    if outer is None or inner is None or outer.last < inner.first or inner.last < outer.first:
        return [held]
    rest = []
    if inner.first < outer.first:
        rest.append(str(Days(first=inner.first, last=outer.first - _DAY)))
    if outer.last < inner.last:
        rest.append(str(Days(first=outer.last + _DAY, last=inner.last)))
    return rest


def _parsed(text: str) -> Days | None:
    try:
        return Days.parse(text)
    except ValueError:
        return None
