"""Where history comes from: files, databases, functions.

A loader may also be any function `(start, end)` that returns a `pa.Table` or yields Arrow batches.
"""

from feature_store.loaders.database import DatabaseLoader, sql
from feature_store.loaders.files import FileLoader, csv, parquet
from feature_store.loaders.part import Part, Unreadable
from feature_store.loaders.publishing import read_file
from feature_store.loaders.s3 import S3

__all__ = ["S3", "DatabaseLoader", "FileLoader", "Part", "Unreadable", "csv", "parquet", "read_file", "sql"]
