"""`acl`: the users that Redis should know, so that each process may do what it is for and no more."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from feature_store.online.acl import ROLES, role
from feature_store.settings import Settings


def acl(
    roles: Annotated[list[str] | None, typer.Argument(help="By default all", metavar="[ROLE]...")] = None,
) -> None:
    """Print the commands that tell Redis its users for this environment, by role; give each a password after.

    `feature-store acl | valkey-cli` runs them; passwords stay as they are: `ACL SETUSER dev-reader >PASSWORD` sets one.
    """
    env = Settings().environment
    for one in [role(name) for name in roles or ROLES]:
        sys.stdout.write(f"ACL SETUSER {one.rules(env)}\n")
