"""The declarations of this project; `registry` is what the setting `declarations` names."""

from features.payments import registry

__all__ = ["registry"]
