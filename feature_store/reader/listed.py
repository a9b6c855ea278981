"""A list of features, read as if it were a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feature_store.declare.feature import FeatureRef
from feature_store.errors import InputError, UnknownNameError
from feature_store.online.layout import ServiceLayout, StoredItem, ViewLayout


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
