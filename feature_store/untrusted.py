"""Bytes that anybody may have written, decoded: whatever is wrong with them is one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

Decoded = TypeVar("Decoded")


def decoded(decode: Callable[[bytes], Decoded], value: bytes) -> Decoded:
    """What a decoder of msgspec makes of a value.

    Raises:
        msgspec.DecodeError: it is not of the decoder's type, no text where there should be some, or nested too deep.
    """
    try:
        return decode(value)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deep") from None
