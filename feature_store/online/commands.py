"""Commands in Redis' protocol, packed by hand where there are many."""

from __future__ import annotations

from collections.abc import Sequence


def pack_command(arguments: Sequence[bytes]) -> bytes:
    """Any command in Redis' protocol."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in arguments))
