"""Keeping a deployment small: what nothing needs any more goes, what something needs stays and says why."""
