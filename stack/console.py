"""What of the processes' output reaches the terminal: not what they say in passing. All of it goes to a file."""

from __future__ import annotations

import logging
import re
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from honcho.printer import Message, Printer

_IN_PASSING = re.compile(r"\b(INFO|DEBUG)\b")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SYSTEM = "system"
"""What honcho calls itself."""
_FILE_BYTES, _FILES = 5_000_000, 2


class Console(Printer):
    """Honcho's printer, which also keeps a file."""

    def __init__(self, log_file: Path, *, verbose: bool) -> None:
        super().__init__(sys.stdout)
        self._verbose, self._ending = verbose, False
        self._file = RotatingFileHandler(log_file, maxBytes=_FILE_BYTES, backupCount=_FILES)

    def write(self, message: Message) -> None:
        """Take one message of a process or of the manager."""
        data = message.data
        text = data.decode(errors="replace") if isinstance(data, bytes) else data
        if message.name == _SYSTEM and "received" in text:
            self._ending = True
            self.say("Ending ...")
        for line in _COLOUR.sub("", text).splitlines():
            self.note(f"{message.time:%Y-%m-%d %H:%M:%S} {message.name:<{self.width}} | {line}")
            if line.strip() and (self._verbose or self._matters(message.name, line)):
                super().write(message._replace(data=line))

    def say(self, text: str) -> None:
        """Print without a prefix."""
        print(text, flush=True)  # noqa: T201 - the terminal is what this is for
        self.note(text)

    def note(self, line: str) -> None:
        """Write to the file alone."""
        self._file.emit(logging.makeLogRecord({"msg": line}))

    def _matters(self, name: str, line: str) -> bool:
        """What is said by processes that were told to end is of interest to nobody."""
        return name != _SYSTEM and not self._ending and not _IN_PASSING.search(line)
