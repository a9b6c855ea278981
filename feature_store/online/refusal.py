"""What Redis says no to, in words: who we are, what we may, or a command; or it does not answer at all."""

from __future__ import annotations

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError


def refusal(error: Exception) -> str | None:
    """What a server that answers refuses, as the rest of a sentence about it; None where nobody answers.

    >>> refusal(NoPermissionError("User ro has no permissions to run the 'set' command"))
    "does not allow this user what is asked (User ro has no permissions to run the 'set' command); `feature-store acl` prints the rules of each role"
    >>> refusal(OSError("Connection refused"))
    """
    said = str(error).rstrip(".")
    if isinstance(error, NoPermissionError):
        return f"does not allow this user what is asked ({said}); `feature-store acl` prints the rules of each role"
    if isinstance(error, AuthenticationError):
        return f"refuses the user or the password ({said}); correct them in the Redis URL"
    return f"refuses a command: {said}" if isinstance(error, ResponseError) else None


def worded(error: Exception) -> str:
    """What Redis, or the way to it, said.

    >>> worded(ResponseError("unknown command 'HSETEX'")), worded(OSError("Connection refused"))
    ("Redis refuses a command: unknown command 'HSETEX'", 'Redis does not answer: Connection refused')
    """
    return f"Redis {refusal(error) or f'does not answer: {error}'}"
