"""Who runs this process, as books and the audit log name them."""

from __future__ import annotations

import getpass
import socket


def whoever() -> str:
    """`user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
