"""The settings as they may be shown: each with where it comes from, secrets masked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from feature_store.masked import MASK
from feature_store.settings import CONFIG, PREFIX, Settings, origin_of

_PASSWORD = re.compile(r"(?<=://)([^:@/]*):[^@/]*@")
_OPTIONS = re.compile(r"\?.+")


class Setting(NamedTuple):
    """One setting."""

    name: str
    shown: str
    """Its value, with passwords masked; '' for none."""
    origin: str
    """As `origin_of` says."""


def configured(settings: Settings) -> list[Setting]:
    """All settings, in the order in which they are declared."""
    return [
        Setting(name, shown(name, getattr(settings, name)), origin_of(name)) for name in type(settings).model_fields
    ]


def shown(name: str, value: object) -> str:
    """A value of a setting, without what is secret of it.

    >>> shown("redis_url", "redis://me:secret@redis:6379/0"), shown("workers", 2)
    ('redis://me:***@redis:6379/0', '2')
    """
    if value is None:
        return ""
    text = str(value)
    if name == "alert_webhook_url":
        parts = urlsplit(text)
        return f"{parts.scheme}://{parts.hostname}/{MASK}"
    if "://" not in text:
        return text
    return _OPTIONS.sub(f"?{MASK}", _PASSWORD.sub(rf"\1:{MASK}@", text))


def unknown_variables(environment: Iterable[str]) -> dict[str, str | None]:
    """Variables that look like settings and are none -> the one that may have been meant."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG}
    strange = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None) for name in strange}
