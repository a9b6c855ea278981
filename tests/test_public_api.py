"""What `import feature_store` offers: sorted, complete, and each name with a docstring."""

import inspect

import pytest

import feature_store


def test_the_public_names_are_sorted_and_unique():
    assert list(feature_store.__all__) == sorted(set(feature_store.__all__))


@pytest.mark.parametrize("name", feature_store.__all__)
def test_a_public_name_exists_and_says_what_it_is(name):
    value = getattr(feature_store, name)

    assert inspect.ismodule(value) or inspect.getdoc(value), f"`{name}` has no docstring"
    assert name in dir(feature_store)
