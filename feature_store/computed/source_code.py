"""What a Python function means, as a digest: of its code, and of everything of yours that the code uses.

Comments, docstrings, annotations and layout do not count; a helper, a constant or a closure does, however deep. What
comes from Python itself or an installed package counts by its name.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import re
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from datetime import date, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from feature_store.computed.function import Function
from feature_store.errors import InputError

_SKIPPED = {"ctx", "type_comment", "kind", "type_params"}
"""Fields of a syntax tree that change no value, or that only some versions of Python have."""
_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, date, timedelta, tzinfo, Decimal)
_INSTALLED = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def digest_of(function: Callable[..., Any], *, name: str, version: str | None = None) -> str:
    """The digest of a function, the same in every process and under every version of Python.

    Args:
        function: defined by `def`.
        name: of the function, for errors.
        version: stands for objects whose values cannot be told apart.

    Raises:
        InputError: its code cannot be read, or it uses an object of which nobody can say when it changes.
    """
    meaning = "\n".join(_Reading(name, version).function(function))
    return hashlib.blake2b(meaning.encode(), digest_size=16).hexdigest()


class _Reading:
    """Reads a function and what it uses, each thing once."""

    def __init__(self, name: str, version: str | None) -> None:
        self._name, self._version = name, version
        self._seen: dict[int, int] = {}

    def function(self, function: Callable[..., Any]) -> Iterator[str]:
        if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
            raise InputError(f"on-demand function '{self._name}' must be defined by `def`, got {function!r}")
        if id(function) in self._seen:  # it calls itself, or is called twice
            yield f"function {self._seen[id(function)]}"
            return
        self._seen[id(function)] = len(self._seen)
        tree = self._tree(function)
        yield repr([_shape(tree.args), [_shape(node) for node in tree.body]])
        for name, value in sorted(_used(tree, function).items(), key=lambda item: item[0]):
            for line in self._value(value, name):
                yield f"{name} = {line}"

    def _tree(self, function: FunctionType) -> ast.FunctionDef:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function.__code__))).body[0]
        except (OSError, SyntaxError, TypeError) as error:
            raise InputError(
                f"the code of on-demand function '{self._name}' cannot be read ({error}); define it in a file or a cell"
            ) from error
        if not isinstance(tree, ast.FunctionDef):
            raise InputError(f"on-demand function '{self._name}' must be defined by a plain `def`, got {function!r}")
        tree.decorator_list = []
        for node in ast.walk(tree):
            _strip(node)
        return tree

    def _value(self, value: object, where: str) -> Iterator[str]:
        if isinstance(value, ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(declared := getattr(value, "function", None), Function):
            yield f"on-demand {declared.digest}"
        elif isinstance(value, FunctionType) and not _is_installed(_home(value)):
            yield from self.function(value)
        elif callable(value) and hasattr(value, "__qualname__") and _is_installed(_home(value)):
            yield f"{value.__module__}.{value.__qualname__}"
        else:
            yield self._constant(value, where)

    def _constant(self, value: object, where: str) -> str:
        if isinstance(value, Enum):
            return f"{type(value).__qualname__}.{value.name} = {self._constant(value.value, where)}"
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, tuple | list):
            return f"{type(value).__name__}({', '.join(self._constant(each, where) for each in value)})"
        if isinstance(value, dict):
            items = [f"{self._constant(k, where)}: {self._constant(v, where)}" for k, v in value.items()]
            return f"dict({', '.join(sorted(items))})"
        if isinstance(value, set | frozenset):
            return f"set({', '.join(sorted(self._constant(each, where) for each in value))})"
        if isinstance(value, re.Pattern):
            return f"pattern {value.pattern!r} {value.flags}"
        if type(value).__module__.partition(".")[0] == "numpy" and (told := _of_numpy(value)) is not None:
            return told
        if self._version is None:
            raise InputError(
                f"on-demand function '{self._name}' uses `{where}`, a {type(value).__qualname__}, of which nobody can say when "
                "it changes; give the function a `version=` that you change with it"
            )
        return f"{type(value).__qualname__} of version {self._version}"


def _strip(node: ast.AST) -> None:
    """Take away what changes no value: docstrings and annotations."""
    if isinstance(node, ast.FunctionDef):
        node.returns = None
        node.body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    elif isinstance(node, ast.arg):
        node.annotation = None
    elif isinstance(node, ast.AnnAssign):
        node.annotation = ast.Constant(None)
    elif isinstance(node, ast.JoinedStr):  # early Pythons 3.12 end nested formats with an empty text
        node.values = [each for each in node.values if not (isinstance(each, ast.Constant) and each.value == "")]


def _used(tree: ast.FunctionDef, function: FunctionType) -> dict[str, object]:
    """Names that the code reads from outside -> their values; `module.name` of modules of one's own."""
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {node.id for node in named if not isinstance(node.ctx, ast.Load)}
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    known = function.__globals__ | {name: cell.cell_contents for name, cell in cells.items()}
    outside = {node.id: known[node.id] for node in named if node.id in known and node.id not in own}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = outside.get(node.value.id)
            if isinstance(module, ModuleType) and not _is_installed(module) and hasattr(module, node.attr):
                outside[f"{node.value.id}.{node.attr}"] = getattr(module, node.attr)
    return outside


def _home(value: object) -> ModuleType | None:
    return sys.modules.get(getattr(value, "__module__", None) or "")


def _of_numpy(value: Any) -> str | None:
    """An array, a number, a ufunc or a type of NumPy; None for anything else of it."""
    import numpy as np

    if isinstance(value, np.ufunc | np.dtype):
        return f"numpy {value!r}"
    if not isinstance(value, np.ndarray | np.generic):
        return None
    if value.dtype == object:
        return f"numpy object {value.shape} {value.tolist()!r}"
    content = hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()
    return f"numpy {value.dtype.str} {value.shape} {content}"


def _is_installed(module: ModuleType | None) -> bool:
    """Whether a module is Python's or of an installed package, and not one's own."""
    if module is None or module is builtins or module.__name__.partition(".")[0] == "feature_store":
        return True
    file = getattr(module, "__file__", None)
    return module.__name__ != "__main__" and (file is None or str(Path(file).resolve()).startswith(_INSTALLED))


def _shape(node: object) -> object:
    """A syntax tree as lists, without what changes no value; the same under every version of Python."""
    if isinstance(node, ast.AST):
        fields = [(name, _shape(each)) for name, each in ast.iter_fields(node) if name not in _SKIPPED]
        return [type(node).__name__, *[(name, each) for name, each in fields if each not in (None, [])]]
    if isinstance(node, list):
        return [_shape(each) for each in node]
    return node
