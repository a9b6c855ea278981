"""What a read is asked for: a service, a list of features, which is read as if it were one, and rows; or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from feature_store.declare.feature import FeatureRef
from feature_store.declare.service import FeatureService
from feature_store.errors import InputError, UnknownNameError, shown
from feature_store.online.layout import ServiceLayout, StoredItem, ViewLayout

if TYPE_CHECKING:
    from feature_store.reader.places import RowRefused


def named(features: object) -> str | tuple[str, ...]:
    """What is asked for, if not by the name of a service: the version that a declaration is, or a list of features.

    Raises:
        InputError: it is neither.
    """
    if isinstance(features, FeatureService):
        return features.id
    try:
        return tuple(cast("Sequence[str]", features))
    except TypeError:
        raise InputError(
            f"`features` must be a service, its name or a list of 'view:feature', got {shown(features)}"
        ) from None


def refusal(error: RowRefused | TypeError, rows: object, *, first: int) -> Exception:
    """The error for rows of which one is wrong, or that are no rows at all; `first` is which of the request is first."""
    if isinstance(rows, Mapping) or not isinstance(rows, Sequence):
        return InputError(
            "`rows` must be a list of mappings from columns to values (of a pandas table: `table.to_dict('records')`), "
            f"got {type(rows).__name__}"
        )
    number, reason = getattr(error, "row", None), str(error)
    if number is None:
        strange = [i for i, row in enumerate(rows) if not isinstance(row, Mapping)]
        if not strange:
            return error
        number = strange[0]
        reason = f"a row must be a mapping from columns to values, got {shown(rows[number])}"
    return InputError(f"row {first + number}: {reason}" if len(rows) > 1 else reason)


def list_service(names: Sequence[str], layouts: Mapping[str, ViewLayout]) -> ServiceLayout:
    """The service that serves `view:feature` or `view@2:feature` in the given order, without defaults; nothing is logged.

    Args:
        names: the features; a view without a version is taken in its newest.
        layouts: the layouts in use by `view@version`.

    Raises:
        InputError: for a name of another form, or no names.
        UnknownNameError: for a view that is not served online.
    """
    if not names:
        raise InputError("`features` must name a service or at least one feature such as 'view:feature', got none")
    items = []
    for name in names:
        ref = FeatureRef.parse(name)
        version = ref.version or _newest(ref.view, layouts)
        items.append(StoredItem(view=ref.view, version=version, feature=ref.feature, name=name))
    return ServiceLayout(name="features", version=1, features=list(items), log_rate=0.0)


def _newest(view: str, layouts: Mapping[str, ViewLayout]) -> int:
    versions = [layout.version for layout in layouts.values() if layout.view == view]
    if not versions:
        raise UnknownNameError("online view", view, {layout.view for layout in layouts.values()})
    return max(versions)
