"""How the checks of a source, a view or a service differ from what they are by default."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from feature_store.errors import InputError, unknown_name

Severity = Literal["error", "warn"]
By = float | tuple[object, object] | Collection[str] | None
"""Of one column or feature: a number is a limit, None means that it is not watched. `range` takes (lowest, highest), `categories` the
values that there may be, `drift` also (method, limit) with a method of Evidently's.
"""

SOURCE_CHECKS = ("schema", "volume", "missing_rate", "range", "categories", "drift", "dead_letters")
VIEW_CHECKS = ("freshness", "online_parity", "missing_rate", "range", "categories", "drift")
SERVICE_CHECKS = ("training_serving_skew_score", "default_value_rate", "drift")
DRIFT_METHODS = ("wasserstein", "jensenshannon", "psi", "kl_div", "hellinger")
"""Of Evidently's those that are distances: the larger, the farther."""
_NEEDS = {"schema": "load", "dead_letters": "log", "freshness": "online", "online_parity": "online"}
"""Check -> the field without which a declaration has nothing to look at."""
_WITHOUT_LIMIT = ("schema", "freshness", "online_parity", "training_serving_skew_score")
_WITHOUT_NAMES = (*_WITHOUT_LIMIT, "volume", "dead_letters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check, as far as it is not as by default."""

    limit: float | None = None
    """A figure above it makes the check red; of every column or feature that `by` does not name (of drift: of numbers)."""
    by: Mapping[str, By] = field(default_factory=dict, hash=False)
    """Column, or feature -> its own limit; None: not watched."""
    days: int = 1
    """Of drift: how many days are compared when no run says which; a quiet source needs more than one."""
    severity: Severity | None = None
    """'error', or 'warn': seen and told, but no reason to stop."""
    blocking: bool | None = None
    """Whether what is built in the same run waits for it; only an error stops anything."""


Given = Check | float | Mapping[str, By] | None
"""A number is short for `Check(limit=...)`, a mapping for `Check(by=...)`, None for no such check."""
Checks = Mapping[str, Given]


def declared_check(checks: Checks, name: str, drift: Mapping[str, float | None] = {}) -> Check | None:
    """What a declaration says of a check; None: there shall be none. `drift` is the short form `drift={...}`."""
    given = checks.get(name, drift if name == "drift" else {})
    if given is None or isinstance(given, Check):
        return given
    return Check(by=given) if isinstance(given, Mapping) else Check(limit=given)


def check_problems(
    what: str,
    checks: Checks,
    *,
    known: Sequence[str],
    names: Collection[str],
    without: Collection[str] = (),
    drift: Mapping[str, float | None] = {},
) -> Iterator[str]:
    """What is wrong with the checks of `what`.

    Args:
        what: the declaration, in words.
        checks: as declared.
        known: those that such a declaration may have.
        names: its columns or features.
        without: the fields that it leaves None.
        drift: the short form.
    """
    if drift and "drift" in checks:
        yield f"{what}: `drift` stands twice, as `drift=` and in `checks=`; keep one"
    for name in checks:
        if name not in known:
            yield f"{what}: {unknown_name('check', name, known)}"
            continue
        check = declared_check(checks, name)
        if check is not None and _NEEDS.get(name) in without:
            yield f"{what}: check '{name}' needs `{_NEEDS[name]}`, which is None"
        try:
            _refuse(check, name, names)
        except InputError as error:
            yield f"{what}: check '{name}': {error}"
    yield from (
        f"{what}: `drift`: {unknown_name('column or feature', each, sorted(names))}"
        for each in drift
        if each not in names
    )


def _refuse(check: Check | None, name: str, names: Collection[str]) -> None:
    if check is None:
        return
    _refuse_consequences(check)
    if check.limit is not None:
        if name in _WITHOUT_LIMIT:
            raise InputError(
                f"`limit` is not for this check, whose demand is exact or declared elsewhere, got {check.limit!r}"
            )
        _number(check.limit, "`limit`")
    if check.by and name in _WITHOUT_NAMES:
        raise InputError(f"`by` is not for this check, which looks at the whole, got {sorted(check.by)}")
    for each, value in check.by.items():
        if each not in names:
            raise InputError(unknown_name("column or feature", each, sorted(names)))
        if value is not None:
            _of_one(name, each, value)


def _refuse_consequences(check: Check) -> None:
    if check.severity is not None and check.severity not in get_args(Severity):
        raise InputError(f"`severity` must be 'error' or 'warn', got {check.severity!r}")
    if check.blocking and check.severity == "warn":
        raise InputError("`blocking` needs severity='error': a warning stops nothing")
    if type(check.days) is not int or check.days < 1:
        raise InputError(f"`days` must be a whole number of at least 1, got {check.days!r}")


def _of_one(name: str, each: str, value: By) -> None:
    if name == "range":
        _bounds(each, value)
    elif name == "categories":
        if isinstance(value, str) or not isinstance(value, Collection) or not value:
            raise InputError(f"'{each}' must have the values that there may be, as a set of texts, got {value!r}")
    elif name == "drift" and isinstance(value, tuple):
        if len(value) != 2 or value[0] not in DRIFT_METHODS:
            methods = ", ".join(DRIFT_METHODS)
            raise InputError(f"'{each}' must be a limit, or (method, limit) with a method of {methods}, got {value!r}")
        _number(value[1], f"the limit of '{each}'")
    else:
        _number(value, f"the limit of '{each}'")


def _bounds(each: str, value: By) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise InputError(f"'{each}' must be (lowest, highest), either of them None for no bound, got {value!r}")
    low, high = value
    for bound in (low, high):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
            raise InputError(f"'{each}' must be (lowest, highest) as numbers, got {value!r}")
    if low is not None and high is not None and low > high:  # type: ignore[operator]
        raise InputError(f"'{each}' must be (lowest, highest) in this order, got {value!r}")


def _number(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InputError(f"{what} must be a number that is not negative, got {value!r}")
