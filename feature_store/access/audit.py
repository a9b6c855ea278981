"""Who did what with which outcome: a line of JSON for each request and each change of keys.

It names keys by their ids, services, views and sources, and how many rows; never what an entity is called or has.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import datetime
from pathlib import Path

import msgspec

from feature_store.errors import SettingsError

STDERR = "stderr"
FLUSH_S = 0.2
"""How long lines wait for others before they are written; who is killed loses them."""
KEPT = 100_000
"""Lines that wait while they cannot be written; after that, the oldest are lost, and counted."""

logger = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line; what is not there is left out."""

    at: datetime
    """By the deployment's clock."""
    env: str
    did: str
    """The operation: `read`, `publish`, `create key`."""
    key: str | None = None
    """Whose it was."""
    claimed: str | None = None
    """The id of a key whose secret was wrong or has ended."""
    by: str | None = None
    """Who changed keys, or was shown personal data: `user@host`."""
    peer: str | None = None
    """Where a request came from."""
    what: str = ""
    """The service, features, source or key."""
    rows: int = 0
    status: int | None = None
    """Of the answer."""
    problem: str = ""
    """Its type, where it is one; of a command, what was wrong."""


_encode = msgspec.json.Encoder().encode


class AuditLog:
    """Writes entries to a file, or to standard error, behind the requests that they are about.

    A file is opened for each portion, so it may be moved away while it is written, and several processes may write to it:
    each portion is one append of whole lines.
    """

    def __init__(self, target: str | None) -> None:
        """Where to: `stderr`, a file, or nowhere.

        Raises:
            SettingsError: the file cannot be written.
        """
        self.is_on = target is not None
        self.lost = 0
        """Entries that could not be written."""
        self._path = None if target in (None, STDERR) else Path(str(target))
        self._waiting: list[Entry] = []
        self._timer: threading.Timer | None = None
        self._writing = threading.Lock()
        if self._path is not None:
            try:
                os.close(self._open(self._path))
            except OSError as error:
                raise SettingsError(
                    f"setting `audit_log` must be 'stderr' or a file that can be written, got '{target}': {error.strerror}"
                ) from error

    def note(self, entry: Entry) -> None:
        """Take an entry; it is written a moment later."""
        if not self.is_on:
            return
        self._waiting.append(entry)
        if self._timer is None:
            self._timer = timer = threading.Timer(FLUSH_S, self.flush)
            timer.daemon = True
            timer.start()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            self._timer = None
            waiting = self._waiting
            entries = waiting[:]
            del waiting[: len(entries)]  # what is added meanwhile stays
            if not entries:
                return
            try:
                self._write(b"".join([_encode(entry) + b"\n" for entry in entries]))
            except OSError as error:
                logger.error("the audit log cannot be written, %d lines wait: %s", len(entries), error)  # noqa: TRY400
                waiting[:0] = entries
                if (excess := len(waiting) - KEPT) > 0:
                    del waiting[:excess]
                    self.lost += excess

    def close(self) -> None:
        """Write what waits, and what cannot be written is lost."""
        if self._timer is not None:
            self._timer.cancel()
        self.flush()

    def _write(self, text: bytes) -> None:
        if self._path is None:
            sys.stderr.write(text.decode())
            sys.stderr.flush()
            return
        file = self._open(self._path)
        try:
            while text:
                text = text[os.write(file, text) :]
        finally:
            os.close(file)

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
