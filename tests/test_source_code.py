"""What a function means is its code and what it uses of one's own, whatever it looks like and whoever runs it."""

import functools
import importlib.util
import itertools
import subprocess
import sys

import pytest

from feature_store.computed.source_code import digest_of
from feature_store.errors import InputError

_numbers = itertools.count()

PLAIN = """
import numpy as np

def f(x, y):
    return np.log1p(x) + y
"""


@pytest.fixture
def digest(tmp_path):
    """The digest of `f` in a module of that text; `extra` is another module of one's own."""

    def of(text, extra="", version=None):
        number = next(_numbers)
        (tmp_path / f"extra{number}.py").write_text(extra)
        path = tmp_path / f"declared{number}.py"
        path.write_text(text.replace("EXTRA", f"extra{number}"))
        sys.path.insert(0, str(tmp_path))
        try:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return digest_of(module.f, name="f", version=version)
        finally:
            sys.path.remove(str(tmp_path))

    return of


@pytest.mark.parametrize(
    "text",
    [
        'import numpy as np\n# said\n\n\ndef f(\n    x,\n    y,\n):\n    """What it is."""\n    # why\n    return (np.log1p(x)) + y\n',
        "import numpy as np\n\ndef f(x: 'object', y: float) -> float:\n    return np.log1p(x) + y\n",
        "import numpy as np\nOTHER = 3\n\ndef f(x, y):\n\n    return np.log1p(x) + y\n",
    ],
    ids=["comments and layout", "annotations", "what it does not use"],
)
def test_what_changes_no_value_changes_no_digest(digest, text):
    assert digest(text) == digest(PLAIN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(x):\n    return x + 1\n", "def f(x):\n    return x + 2\n"),
        ("def f(x):\n    return x + 1\n", "def f(x):\n    return x + 1.0\n"),
        ("def f(x):\n    return -x\n", "def f(x):\n    return +x\n"),
        ("A = 1\ndef f(x):\n    return x + A\n", "A = 2\ndef f(x):\n    return x + A\n"),
        ("A = {'a': [1, (2,)]}\ndef f(x):\n    return A\n", "A = {'a': [1, (3,)]}\ndef f(x):\n    return A\n"),
        ("import numpy as np\nA = np.array([1, 2])\ndef f(x):\n    return A[x]\n",
         "import numpy as np\nA = np.array([1, 3])\ndef f(x):\n    return A[x]\n"),
        ("def g(x):\n    return x\ndef f(x):\n    return g(x)\n", "def g(x):\n    return x * 2\ndef f(x):\n    return g(x)\n"),
        ("def f(x):\n    def g(y):\n        return y\n    return g(x)\n",
         "def f(x):\n    def g(y):\n        return y * 2\n    return g(x)\n"),
        ("def make(k):\n    def f(x):\n        return x * k\n    return f\nf = make(2)\n",
         "def make(k):\n    def f(x):\n        return x * k\n    return f\nf = make(3)\n"),
        ("from math import sin as g\ndef f(x):\n    return g(x)\n", "from math import cos as g\ndef f(x):\n    return g(x)\n"),
    ],
    ids=["a number", "its type", "an operator", "a constant", "deep in a constant", "an array", "a helper", "an inner function",
         "a closure", "another function of a library"],
)  # fmt: skip
def test_what_changes_values_changes_the_digest(digest, before, after):
    assert digest(before) != digest(after)


def test_modules_of_ones_own_are_read_too(digest):
    text = "import EXTRA as own\ndef f(x):\n    return own.g(x) * own.RATE\n"

    found = {
        digest(text, extra=f"RATE = {rate}\ndef g(x):\n    return x + {step}\n") for rate in (1, 2) for step in (1, 2)
    }

    assert len(found) == 4


def test_functions_that_call_themselves_and_each_other_have_a_digest(digest):
    text = "def g(x):\n    return f(x)\ndef f(x):\n    return g(x) if x > 9 else f(x + {step})\n"

    assert digest(text.format(step=1)) == digest(text.format(step=1)) != digest(text.format(step=2))


def test_an_object_that_may_be_anything_needs_a_version(digest):
    text = "class Model:\n    pass\nmodel = Model()\ndef f(x):\n    return model.predict(x)\n"

    with pytest.raises(InputError, match="'f' uses `model`, a Model, of which nobody can say when it changes"):
        digest(text)

    assert digest(text, version="2026-01") != digest(text, version="2026-02")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x, "must be defined by `def`"),
        (functools.partial(max, 1), "must be defined by `def`"),
        (len, "must be defined by `def`"),
        (eval("exec('def f(x):\\n return x') or locals()['f']"), "cannot be read"),
    ],
    ids=["a lambda", "a partial", "a builtin", "without source"],
)
def test_what_cannot_be_read_is_refused(function, said):
    with pytest.raises(InputError, match=said):
        digest_of(function, name="f")


RICH = """
import math
RATES = {"a": 1.5, "b": (1, 2)}
def helper(x: int) -> str:
    return f"{x:>{3}}!{x!r}" + "a" "b"
def f(x, y):
    z: float = [i * RATES["a"] for i in y if (n := i) > 0]
    return helper(x), {**{"k": z}}, math.sin(x), lambda q, /, *, r=3: q if r else None
"""


def test_the_digest_is_the_same_under_every_version_of_python(digest):
    # Seen under Python 3.11.7, 3.12.1 and 3.13.0.
    assert digest(RICH) == "422cbab9572be4fae89dd5147c348935"


def test_the_digest_is_the_same_in_every_process(digest, tmp_path):
    (tmp_path / "there.py").write_text(PLAIN)
    script = (
        "import there; from feature_store.computed.source_code import digest_of; print(digest_of(there.f, name='f'))"
    )

    told = [
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"},
        ).stdout.strip()
        for seed in ("1", "2")
    ]  # fmt: skip

    assert told == [digest(PLAIN)] * 2
