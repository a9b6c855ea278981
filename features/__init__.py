"""This deployment's declarations; `registry` is what the setting `declarations` names."""

from features.declarations import registry

__all__ = ["registry"]
