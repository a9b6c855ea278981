"""What a lake of several machines needs: a real Postgres, and a real server of S3's protocol that checks signatures."""

import functools
import json
import logging
import os
import re
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import boto3
from lake_rows import SCHEMA

from feature_store.lake import Lake, LakeLocation

USER = "reader"


def policy(**effects: list[str]) -> str:
    """What a user may do with all objects: actions by their effect."""
    listed = [{"Effect": effect, "Action": actions, "Resource": "*"} for effect, actions in effects.items()]
    return json.dumps({"Version": "2012-10-17", "Statement": listed})


@dataclass(frozen=True)
class ObjectServer:
    """Its address, and the one user that it knows."""

    url: str
    key: str
    secret: str

    @functools.cached_property
    def client(self):
        keys = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    @contextmanager
    def denying(self, *actions: str) -> Iterator[None]:
        """While it lasts, the user may not do some things, such as `s3:DeleteObject`."""
        self._allow(policy(Allow=["s3:*"], Deny=[*actions]))
        try:
            yield
        finally:
            self._allow(policy(Allow=["s3:*"]))

    def _allow(self, document: str) -> None:
        check_signatures(self.url, after="inf")
        iam_client(self.url).put_user_policy(UserName=USER, PolicyName="all", PolicyDocument=document)
        check_signatures(self.url, after="0")

    def environment(self) -> dict[str, str]:
        """What a process needs to use it; an empty value counts as none."""
        unset = dict.fromkeys(["AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"], "")
        return unset | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }


def object_server():
    """A server that is not started yet. All of one process know the same buckets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    return ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)


@contextmanager
def running_object_server() -> Iterator[ObjectServer]:
    running = object_server()
    running.start()
    host, port = running.get_host_and_port()
    url = f"http://{host}:{port}"
    iam = iam_client(url)
    iam.create_user(UserName=USER)
    iam.put_user_policy(UserName=USER, PolicyName="all", PolicyDocument=policy(Allow=["s3:*"]))
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    check_signatures(url, after="0")
    server = ObjectServer(url, key["AccessKeyId"], key["SecretAccessKey"])
    try:
        yield server
    finally:
        check_signatures(url, after="inf")
        running.stop()


def iam_client(url: str):
    return boto3.client(
        "iam", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def check_signatures(url: str, *, after: str) -> None:
    """Tells the server to check who asks, from so many requests on."""
    request = urllib.request.Request(
        f"{url}/moto-api/reset-auth", data=after.encode(), method="POST", headers={"Content-Type": "text/plain"}
    )
    urllib.request.urlopen(request).close()


class PostgresServer:
    """A server on a socket in a folder, where users other than `postgres` need a password."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pgserver
        self.folder = folder
        self._server = pgserver.get_server(folder, cleanup_mode="delete")
        self.psql = self._server.psql
        (folder / "pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        # A test's data need not survive the machine.
        self.psql("ALTER SYSTEM SET fsync = off;")
        self.psql("SELECT pg_reload_conf();")
        self.socket = re.search(r"host=(.*)$", self._server.get_uri())[1]

    def words(self, database: str, *, user: str = "postgres") -> str:
        return f"host={self.socket} dbname={database} user={user}"

    def stop(self) -> None:
        self._control("-m", "fast", "stop")

    def start(self) -> None:
        self._control("-o", '-h ""', "-o", f"-k {self.socket}", "-l", str(self.folder / "log"), "start")

    def cleanup(self) -> None:
        self._server.cleanup()

    def _control(self, *arguments: str) -> None:
        from pgserver._commands import pg_ctl

        pg_ctl(["-w", *arguments], pgdata=self.folder, user=self._server.system_user)


@dataclass
class SharedLakes:
    """Makes shared lakes, each a database and a prefix of its own, as copies of one that knows `departures`."""

    postgres: PostgresServer
    objects: ObjectServer
    scratch: Path
    _numbers: Iterator[int] = field(default_factory=count)

    bucket = "lake"

    def __post_init__(self) -> None:
        self.objects.client.create_bucket(Bucket=self.bucket)
        self.postgres.psql("CREATE DATABASE template_lake;")
        with Lake.open(self._location("template_lake", self.scratch)) as lake:
            lake.ensure_source("departures", SCHEMA)

    def new(self, directory: Path) -> LakeLocation:
        """A lake that knows `departures`; `directory` is what the machine keeps of it."""
        place = self._location(f"lake_{next(self._numbers)}", directory)
        self._copy_template(place)
        return place

    def empty(self, directory: Path) -> LakeLocation:
        """A place where no lake is yet."""
        name = f"empty_{next(self._numbers)}"
        self.postgres.psql(f"CREATE DATABASE {name};")
        return self._location(name, directory)

    def files(self, place: LakeLocation) -> list[str]:
        """The Parquet files of a lake's data."""
        prefix = place.files.removeprefix(f"s3://{self.bucket}/") + "/"
        pages = self.objects.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def _location(self, database: str, directory: Path) -> LakeLocation:
        return LakeLocation(
            directory, f"postgres:{self.postgres.words(database)}", f"s3://{self.bucket}/{os.getpid()}/{database}"
        )

    def _copy_template(self, place: LakeLocation) -> None:
        database = place.files.rpartition("/")[2]
        for _ in range(100):  # the pool of the template's lake may take a moment to leave
            if not self.postgres.psql("SELECT 1 FROM pg_stat_activity WHERE datname = 'template_lake';").count("1 row"):
                break
            time.sleep(0.05)
        self.postgres.psql(f"CREATE DATABASE {database} TEMPLATE template_lake;")
        self.postgres.psql(
            f"\\connect {database}\nUPDATE ducklake_metadata SET value = '{place.files}/' WHERE key = 'data_path';"
        )
