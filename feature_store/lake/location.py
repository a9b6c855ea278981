"""Where a lake is: all of it in a directory, or catalog and data where several machines reach them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.loaders.database import attach_problems

if TYPE_CHECKING:
    from feature_store.settings import Settings

S3_SCHEME = "s3://"
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?")


@dataclass(frozen=True, slots=True)
class LakeLocation:
    """A place for a lake. Holds no password.

    Raises:
        InputError: `catalog` or `data` breaks its rule, or one is given without the other.
    """

    directory: Path
    """On this machine: staging and what spills; of a local lake also the catalog, the data and the commit lock."""
    catalog: str | None = None
    """Of a shared lake: `postgres:env:NAME`, `postgres:host=... dbname=...` or `postgres://user@host/database`."""
    data: str | None = None
    """Of a shared lake: `s3://bucket/prefix`, or a directory that all machines have under this path."""

    def __post_init__(self) -> None:
        problems = _problems(self.catalog, self.data)
        if problems:
            raise InputError("; ".join(problems))
        object.__setattr__(self, "directory", self.directory.absolute())
        if self.data is not None and not self.data.startswith(S3_SCHEME):
            object.__setattr__(self, "data", str(Path(self.data).absolute()))

    @classmethod
    def of(cls, settings: Settings) -> LakeLocation:
        """The place that a deployment's settings name."""
        return cls(settings.lake_directory, settings.lake_catalog, settings.lake_data)

    @property
    def is_shared(self) -> bool:
        """Whether several machines may use it."""
        return self.catalog is not None

    @property
    def files(self) -> str:
        """The folder or prefix of its Parquet files, without a slash at the end."""
        return str(self.directory / "data") if self.data is None else self.data.rstrip("/")

    def __str__(self) -> str:
        return f"{self.catalog} (data in {self.files})" if self.is_shared else str(self.directory)


def _problems(catalog: str | None, data: str | None) -> list[str]:
    if catalog is None and data is None:
        return []
    if catalog is None or data is None:
        given, missing = ("lake_catalog", "lake_data") if data is None else ("lake_data", "lake_catalog")
        return [f"`{missing}` must be given with `{given}`: a shared lake has both elsewhere, a local lake neither"]
    problems = attach_problems(catalog, name="lake_catalog", kinds=("postgres",))
    if "://" in data and not _BUCKET.fullmatch(data):
        problems.append(f"`lake_data` must be s3://bucket/prefix or a directory, got '{data}'")
    return problems
