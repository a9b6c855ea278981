"""`drift`: the distributions of columns or features stay near those of a reference."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from feature_store_deploy.checks.declared import Figure, Measurement
from feature_store_deploy.checks.distance import (
    Asked,
    Distance,
    evidently_distances,
    quick_distances,
    with_distances,
)
from feature_store_deploy.checks.drawn import NUMBERS, TEXTS
from feature_store_deploy.checks.samples import Sample
from feature_store_deploy.checks.window import Days

from feature_store.declare.check import Check
from feature_store.errors import InputError
from feature_store.history.mapped import drop_older

CATEGORY_THRESHOLD = 0.2
"""Of columns compared as categories, unless the declaration says otherwise."""
FEWEST_ROWS = 100
"""With fewer rows on either side nothing is said."""
KEPT_PAGES = 30
"""Of each asset; a page has some megabytes."""
LOOK_CLOSER = 0.7
"""From this share of its threshold on a column has Evidently look at all of them, and write its page."""
METHOD = "Evidently's distances, by column"


def measure_drift(
    current: Sample,
    reference: Sample,
    *,
    check: Check,
    default: float,
    report: Path | None,
    said: str,
    days: Days | None = None,
    unwatched: Sequence[str] = (),
    always_report: bool = False,
) -> Measurement:
    """How far the columns that are watched, and have values on both sides, have moved.

    Args:
        current: what is in question.
        reference: what it should look like.
        check: as declared.
        default: the threshold of numbers for which nothing is declared.
        report: where Evidently's page goes; None: nowhere.
        said: the reference in words.
        days: those of `current`.
        unwatched: columns that cannot be compared, unless the declaration names them.
        always_report: whether there shall be a page even if nothing has moved.
    """
    sizes = {"rows": len(current), "reference_rows": len(reference)}
    if min(len(current), len(reference)) < FEWEST_ROWS:
        return _nothing("too few rows to compare", said, days, len(current), sizes)
    asked = [
        each
        for each in _asked(current, reference, check, default)
        if each.column in check.by or each.column not in unwatched
    ]
    if not asked:
        return _nothing("nothing that could be compared", said, days, len(current), sizes)
    found, page = compare(current, reference, asked, report=report, always_report=always_report)
    return Measurement(
        figures=[
            Figure(name=each.column, value=each.distance, limit=each.threshold, method=each.method) for each in found
        ],
        reference=said,
        sample_size=len(current),
        method=METHOD,
        days=days,
        metadata={**sizes, "drifted": [each.column for each in found if each.drifted], **_linked(page)},
    )


def compare(
    current: Sample, reference: Sample, asked: Sequence[Asked], *, report: Path | None, always_report: bool = False
) -> tuple[list[Distance], Path | None]:
    """The distances, the farthest first, and Evidently's page if there was a reason to write one."""
    found = quick_distances(current, reference, asked)
    near = any(each.distance >= LOOK_CLOSER * each.threshold for each in found)
    if not (near or len(found) < len(asked) or (always_report and report)):
        return _sorted(found), None
    distances = evidently_distances(current, reference, asked, report=report)
    if report is not None:
        drop_older(report.parent.glob("*.html"), keep=KEPT_PAGES)
    return _sorted(with_distances(found, distances, asked)), report


def report_path(home: Path, key: dg.AssetKey, days: Days) -> Path:
    """Where Evidently's page is kept; evaluating the same days again replaces it."""
    return home.joinpath("reports", "drift", *key.path, f"{str(days).replace('/', '_')}.html").absolute()


def _asked(current: Sample, reference: Sample, check: Check, default: float) -> list[Asked]:
    texts = [name for name in current.texts if name in reference.texts]
    numbers = [name for name in current.numbers if name in reference.numbers]
    return [
        _of_column(name, check, default, is_text=name in texts)
        for name in [*numbers, *texts]
        if not (name in check.by and check.by[name] is None) and _has_values(name, current, reference)
    ]


def _of_column(name: str, check: Check, default: float, *, is_text: bool) -> Asked:
    declared = check.by.get(name, None if is_text else check.limit)  # shares have another scale
    method = TEXTS if is_text else NUMBERS
    if isinstance(declared, tuple):
        method, declared = str(declared[0]), declared[1]
    if is_text and method == NUMBERS:
        raise InputError(f"drift of '{name}': method '{method}' compares numbers, but the values are categories")
    threshold = declared if isinstance(declared, int | float) else CATEGORY_THRESHOLD if is_text else default
    return Asked(column=name, threshold=float(threshold), method=method, is_text=is_text)


def _has_values(name: str, *samples: Sample) -> bool:
    columns = (each.table.column(name) for each in samples)
    return all(column.null_count < len(column) for column in columns)


def _sorted(found: Sequence[Distance]) -> list[Distance]:
    return sorted(found, key=lambda each: each.distance / (each.threshold or 1e-9), reverse=True)


def _linked(page: Path | None) -> dict[str, object]:
    if page is None:
        return {}
    return {"report": dg.MetadataValue.path(str(page)), "report_link": dg.MetadataValue.url(page.as_uri())}


def _nothing(why: str, said: str, days: Days | None, size: int, sizes: dict[str, int]) -> Measurement:
    return Measurement(
        figures=(),
        reference=said,
        sample_size=size,
        method=METHOD,
        days=days,
        said=why,
        metadata=sizes,
    )
