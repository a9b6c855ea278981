"""Declarations in whatever form a notebook has them: a registry, a module, its name, or what a cell has defined."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from feature_store.declare.label import Label
from feature_store.declare.service import FeatureService
from feature_store.declare.view import FeatureView
from feature_store.errors import InputError
from feature_store.registry import Registry, load_registry

Declaration = FeatureView | FeatureService | Label
Declarations = Registry | ModuleType | str | Declaration | Sequence[Declaration]


def registry_of(declarations: Declarations) -> Registry:
    """The registry that is meant. A module is read again from its file, so what was edited there counts.

    Raises:
        InputError: there is nothing declared.
        SettingsError: the module or its attribute is not there, or is no registry.
        DeclarationError: everything that is wrong with the declarations.
    """
    if isinstance(declarations, Registry):
        return declarations
    if isinstance(declarations, str):
        module = declarations.partition(":")[0]
        if module in sys.modules:
            _read_again(sys.modules[module])
        return load_registry(declarations)
    if isinstance(declarations, ModuleType):
        return _of_module(_read_again(declarations))
    listed = [declarations] if isinstance(declarations, Declaration) else list(declarations)
    return _collected(listed, where="`declarations`")


def _read_again(module: ModuleType) -> ModuleType:
    """The module as its file is now, and the modules below it; one without a file stays as it is."""
    if module.__spec__ is None or module.__spec__.origin is None:
        return module
    for name in [name for name in sys.modules if name.startswith(f"{module.__name__}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return importlib.reload(module)


def _of_module(module: ModuleType) -> Registry:
    """Its registry, `registry` if there are several, or else all that it declares."""
    found = {name: value for name, value in vars(module).items() if isinstance(value, Registry)}
    if found:
        if len(found) > 1 and "registry" not in found:
            raise InputError(
                f"module '{module.__name__}' has several registries ({', '.join(sorted(found))}): give one of them"
            )
        return found.get("registry") or next(iter(found.values()))
    declared = [value for value in vars(module).values() if isinstance(value, Declaration)]
    return _collected(declared, where=f"module '{module.__name__}'")


def _collected(declared: Sequence[object], *, where: str) -> Registry:
    for each in declared:
        if not isinstance(each, Declaration):
            raise InputError(
                f"`declarations` must be a registry, a module, 'module:attribute', or views, services and labels, got {each!r}"
            )
    views = [each for each in declared if isinstance(each, FeatureView)]
    if not views:
        raise InputError(f"{where} must have a view, got none")
    return Registry(
        views=views,
        services=[each for each in declared if isinstance(each, FeatureService)],
        labels=[each for each in declared if isinstance(each, Label)],
    )
