"""What of the catalog is described to whom: as the list of services and the OpenAPI document are, by the same grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from feature_store.catalog.document import Catalog, ServiceEntry, ViewEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feature_store.catalog.document import Revision
    from feature_store.catalog.history import FieldChange
    from feature_store.serving.guard import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The part of the catalog that is described to somebody."""

    catalog: Catalog
    partly: Mapping[str, frozenset[str]]
    """View of which he knows some features alone, because a service that he reads is made of them -> those features."""

    def may_know(self, name: str, change: FieldChange) -> bool:
        """Whether he may know of a change in the declaration of that name: one of features that he does not see he may not."""
        return name not in self.partly or (change.of in self.partly[name] if change.of else change.field != "order")

    def statistics(self, view: str, found: dict[str, Any]) -> dict[str, Any]:
        """The distributions of a view's features, of those that he sees."""
        known = self.partly.get(view.partition("@")[0])
        if known is None:
            return found
        return {**found, "features": [each for each in found["features"] if each["name"] in known]}


def is_seen(kind: str, name: str, revision: Revision, caller: Caller) -> bool:
    """Whether how something was declared once is described to who sees what it is now: not if it was personal data then."""
    if kind == "service":
        service = msgspec.json.decode(revision.definition, type=ServiceEntry)
        return caller.sees_service(name, service.personal)
    if kind == "view":
        view = msgspec.json.decode(revision.definition, type=ViewEntry)
        return caller.may.admin or not view.personal or caller.may.personal(name)
    return True


def seen_by(catalog: Catalog, caller: Caller) -> Seen:
    """What is described to somebody.

    A view, if he may read it; of any other view, the features that a service is made of which he may read; a source,
    if he may publish to it or sees a view of it; all to who administers.
    """
    services = [each for each in catalog.services if caller.sees_service(each.name, each.personal)]
    read = {name for service in services for name in service.reads}
    partly: dict[str, frozenset[str]] = {}
    views: list[ViewEntry] = []
    for view in catalog.views:
        if caller.sees_view(view.name, personal=view.personal):
            views.append(view)
        elif known := [each for each in view.features if f"{view.id}:{each.name}" in read]:
            views.append(msgspec.structs.replace(view, features=known))
            partly[view.name] = partly.get(view.name, frozenset()) | {each.name for each in known}
    shown = {view.source for view in views}
    entities = {view.entity for view in views}
    return Seen(
        catalog=Catalog(
            views=views,
            services=services,
            sources=[each for each in catalog.sources if each.name in shown or caller.sees_source(each.name)],
            entities=[each for each in catalog.entities if each.name in entities],
        ),
        partly=partly,
    )
