"""For looking at features while they are being declared: drafts over a sample of events, and plots.

Nothing here writes to a deployment; `FeatureStore.local` makes a `Draft`.
"""

from feature_store.notebook.distribution import Distribution
from feature_store.notebook.draft import Draft
from feature_store.notebook.over_time import OverTime

__all__ = ["Distribution", "Draft", "OverTime"]
