"""CSV files as streams of rows: what is no UTF-8 or has another number of cells is set aside, never a whole file."""

from __future__ import annotations

import codecs
import contextlib
import csv as csv_module
import io
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from feature_store.errors import InputError
from feature_store.loaders.part import Unreadable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from pyarrow.csv import InvalidRow

_BLOCK = 1 << 22
DELIMITERS = ",;\t|"
MARK = "\x1a"
"""Stands before each byte that was no UTF-8; ASCII calls this character "substitute"."""
_NULL = f"{MARK}\\x00".encode()
"""A null byte, marked: it is UTF-8, but where text has one, something wrote UTF-16."""

_OPEN = "a quote is opened here and never closed; is the file complete?"


def _marked(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    raw = error.object[error.start : error.end]
    return "".join(f"{MARK}\\x{byte:02x}" for byte in raw), error.end


codecs.register_error("feature_store.marked", _marked)


class Sound(io.RawIOBase):
    """The bytes of a file, as UTF-8 throughout; bytes that are none, and null bytes, are written out and marked."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._left = raw, b""
        self.marked = False
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> bytes:
        del size
        return self._sound(self._raw.readline())

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; whole lines are taken from the file, so that no character is cut."""
        if not self._left:
            self._left = self._sound(self._raw.read(_BLOCK) + self._raw.readline())
        size = len(self._left) if size < 0 else size
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def _sound(self, block: bytes) -> bytes:
        self.quotes += block.count(b'"')
        if b"\0" in block:
            self.marked = True
            block = block.replace(b"\0", _NULL)
        if block.isascii():
            return block
        try:
            block.decode()
        except UnicodeDecodeError:
            self.marked = True
            return block.decode(errors="feature_store.marked").encode()
        return block


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line of a file says."""

    names: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file, all cells text, and the records of the file that they are (1: the first after the header)."""

    rows: pa.Table
    records: np.ndarray[tuple[int], np.dtype[np.int64]]
    has_marks: bool


@dataclass(slots=True)
class Skipped:
    """Records that have another number of cells than the header."""

    cells: int
    texts: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Record -> its text, and its number of cells."""

    def __call__(self, row: InvalidRow) -> str:
        """PyArrow asks what to do with a record; its numbers count the header."""
        self.texts[row.number - 1] = (row.text, row.actual_columns)
        return "skip"

    def listed(self, file: CsvFile, header: Header) -> list[Unreadable]:
        """The records with their places."""
        lines = file.lines(header, set(self.texts)) if self.texts else {}
        return [
            Unreadable(
                f"{place(file.path, lines.get(record))}: {cells} cells, but the header has {self.cells}", unmarked(text)
            )
            for record, (text, cells) in sorted(self.texts.items())
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile:
    """One CSV file with a header line."""

    path: str
    """For messages."""
    open: Callable[[], BinaryIO]
    delimiter: str | None = None
    """None: the one of `,` `;` tab `|` that the header line has most of."""

    def header(self) -> Header:
        """The columns.

        Raises:
            InputError: the file is empty, or its first line is no header.
        """
        with self.open() as raw:
            first = raw.readline()
        if not first.strip():
            raise InputError(f"file '{self.path}' is empty: not even a header; remove it or write it again")
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in first:
            raise InputError(f"'{self.path}', line 1: the file must be UTF-8, got null bytes, as UTF-16 has")
        try:
            line = first.decode("utf-8-sig").rstrip("\r\n").partition("\r")[0]
        except UnicodeDecodeError as error:
            raise InputError(f"'{self.path}', line 1: the header must be UTF-8, got {first.rstrip()!r}") from error
        delimiter = self.delimiter or max(DELIMITERS, key=line.count)
        names = next(csv_module.reader([line], delimiter=delimiter))
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise InputError(f"'{self.path}', line 1: the header must name each column once, got '{doubled[0]}' twice")
        return Header(names=tuple(names), delimiter=delimiter)

    def batches(self, header: Header, skipped: Skipped) -> Iterator[Batch]:
        """The rows in the file's order; memory is bounded whatever the file's size.

        Records that are no rows are left in `skipped`.

        Raises:
            InputError: the file is no CSV, or a quote is opened and never closed.
        """
        import pyarrow as pa

        with self.open() as raw:
            sound, following = Sound(raw), 1
            try:
                for batch in _reader(sound, header, skipped):
                    records = _records(following, batch.num_rows, skipped)
                    following = int(records[-1]) + 1 if len(records) else following
                    yield Batch(pa.Table.from_batches([batch]), records, sound.marked)
            except pa.ArrowInvalid as error:
                self._check_quotes(header)
                raise InputError(f"file '{self.path}' cannot be read: {str(error).splitlines()[0]}") from error
        if sound.quotes % 2:
            self._check_quotes(header)

    def lines(self, header: Header, records: AbstractSet[int]) -> dict[int, int]:
        """The line on which each of the records begins, as far as it can be found; a second look at the file."""
        found: dict[int, int] = {}
        with contextlib.suppress(csv_module.Error):  # a cell of 128 KB: the path alone must do
            found.update((record, line) for record, line, _ in self._walk(header) if record in records)
        return found

    def _check_quotes(self, header: Header) -> None:
        """An open quote swallows the rest of a file, without which nobody would miss it."""
        line: int
        lines: tuple[str, ...]
        line, lines = 1, ()
        try:
            for _, line, lines in self._walk(header):  # noqa: B007 - the last one is wanted
                pass
            list(csv_module.reader(lines, delimiter=header.delimiter, strict=True))
        except csv_module.Error as error:
            said = str(error)
            if "unexpected end" in said:
                raise InputError(f"{place(self.path, line)}: {_OPEN}") from error
            if "field limit" in said:
                raise InputError(f"{place(self.path, line + 1)} or later: {_OPEN}") from error

    def _walk(self, header: Header) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """Record, the line where it begins, and its lines; record 0 is the header."""
        with self.open() as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text:
            lines: list[str] = []
            reader = csv_module.reader(_kept(text, lines), delimiter=header.delimiter)
            record, line = 0, 1
            for cells in reader:
                if cells:
                    yield record, line, tuple(lines)
                    record += 1
                line = reader.line_num + 1
                lines.clear()


def place(path: str, line: int | None) -> str:
    """A place in a file, for messages."""
    return f"'{path}'" if line is None else f"'{path}', line {line}"


def unmarked(text: str) -> str:
    """Text as it is shown."""
    return text.replace(MARK, "")


def _reader(sound: Sound, header: Header, skipped: Skipped) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv

    reader: Iterator[pa.RecordBatch] = csv.open_csv(
        pa.PythonFile(sound, mode="r"),
        # Records are numbered by one thread only.
        read_options=csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=header.names, skip_rows=1),
        parse_options=csv.ParseOptions(
            delimiter=header.delimiter, newlines_in_values=True, invalid_row_handler=skipped
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(header.names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    return reader


def _records(following: int, rows: int, skipped: Skipped) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The numbers of the next `rows` records that were not skipped."""
    import numpy as np

    passed = [record for record in skipped.texts if record >= following]
    numbers = np.arange(following, following + rows + len(passed))
    return np.setdiff1d(numbers, np.array(passed, dtype=np.int64), assume_unique=True)[:rows]


def _kept(lines: Iterable[str], into: list[str]) -> Iterator[str]:
    for line in lines:
        into.append(line)
        yield line
