"""Files in S3, read from a real server of its protocol that checks every signature."""

import io

import boto3
import pyarrow as pa
import pyarrow.parquet
import pytest
from sales_world import HEADER, START, accounted, events, load, opening, rejected

from feature_store import InputError
from feature_store.embedded import free_port
from feature_store.errors import DeclarationError
from feature_store.loaders import S3, csv, parquet


@pytest.fixture(scope="module")
def server(object_server):
    """The address, the access key and the secret of a server that knows one user and the bucket `sales`."""
    object_server.client.create_bucket(Bucket="sales")
    return object_server.url, object_server.key, object_server.secret


@pytest.fixture
def bucket(server, monkeypatch):
    """Puts objects into the bucket; the environment holds what reads them."""
    url, key, secret = server
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    client = boto3.client("s3", region_name="us-east-1")

    def put(key, content):
        client.put_object(Bucket="sales", Key=key, Body=content.encode() if isinstance(content, str) else content)

    yield put
    for found in client.list_objects_v2(Bucket="sales").get("Contents", []):
        client.delete_object(Bucket="sales", Key=found["Key"])
    client.close()


@pytest.fixture
def open_store(tmp_path):
    with opening(tmp_path) as build:
        yield build


def parquet_bytes(ids, items):
    at = pa.array([START] * len(ids), pa.timestamp("us", "UTC"))
    file = io.BytesIO()
    columns = {"uid": ids, "shop": ["x"] * len(ids), "at": at, "amount": [1.0] * len(ids), "items": items}
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def test_parquet_of_a_bucket_is_loaded_and_what_does_not_fit_is_named(bucket, open_store):
    bucket("history/a [1].parquet", parquet_bytes(["a", "b"], [1, 2]))
    bucket("history/b+c.parquet", parquet_bytes(["c", "d"], ["3", "three"]))
    store = open_store(parquet("s3://sales/history/*.parquet"))

    result = load(store)

    assert (result.rows, result.rejected) == (3, 1)
    assert [(row[0], row[4]) for row in events(store)] == [("a", 1), ("b", 2), ("c", 3)]
    place = "'s3://sales/history/b+c.parquet', row 2"
    assert rejected(store) == [("d", f"{place}: column 'items': 'three' is not int64", "rejected")]


def test_csv_of_a_bucket_is_loaded_and_what_does_not_fit_is_named(bucket, open_store, monkeypatch, server):
    bucket("a.csv", HEADER + "a,x,2024-03-30 10:00:00Z,1,1\nb,x\nc,x,2024-03-30 10:00:00Z,much,1\n")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("SALES_KEY", server[1])
    monkeypatch.setenv("SALES_SECRET", server[2])
    s3 = S3(endpoint=server[0], region="eu-west-1", key_env="SALES_KEY", secret_env="SALES_SECRET")
    store = open_store(csv("s3://sales/a.csv", s3=s3))

    result = load(store)

    assert (result.rows, result.rejected) == (1, 2)
    assert [reason for _, reason, _ in rejected(store)] == [
        "'s3://sales/a.csv', line 3: 2 cells, but the header has 5",
        "'s3://sales/a.csv', line 4: column 'amount': 'much' is not double",
    ]


def no_bucket(_put, _set):
    return "s3://sails/*.parquet", r"bucket 'sails' does not exist at http://127.0.0.1:\d+ \(wanted for 's3://sails/"


def no_object(_put, _set):
    return "s3://sales/none/*.parquet", "no file matches 's3://sales/none/\\*.parquet'"


def no_such_object(_put, _set):
    return "s3://sales/none.parquet", "'s3://sales/none.parquet'.*(404|no file matches)"


def wrong_secret(_put, set_env):
    set_env("AWS_SECRET_ACCESS_KEY", "wrong")
    return "s3://sales/*.parquet", r"refuses to read 's3://sales/\*.parquet' \(SignatureDoesNotMatch\); correct AWS_ACC"


def unknown_key(_put, set_env):
    set_env("AWS_ACCESS_KEY_ID", "AKIANOBODY")
    return "s3://sales/*.parquet", r"S3 at http://127.0.0.1:\d+ refuses to read .* \(InvalidAccessKeyId\)"


def key_without_secret(_put, set_env):
    set_env("AWS_SECRET_ACCESS_KEY", "")
    return "s3://sales/*.parquet", "variable 'AWS_SECRET_ACCESS_KEY' is not set, but 'AWS_ACCESS_KEY_ID' is"


def server_down(_put, set_env):
    url = f"http://127.0.0.1:{free_port()}"
    set_env("AWS_ENDPOINT_URL", url)
    return "s3://sales/*.parquet", rf"no S3 server answers at {url} \(wanted for 's3://sales/\*.parquet'\); start it"


def no_url(_put, set_env):
    set_env("AWS_ENDPOINT_URL", "localhost:9000")
    return "s3://sales/*.parquet", "S3 `endpoint` must be like http://127.0.0.1:9000, got 'localhost:9000'"


def cut_object(put, _set):
    put("b.parquet", parquet_bytes(["a"], [1])[:300])
    put("a.parquet", parquet_bytes(["a"], [1]))
    return "s3://sales/*.parquet", "files 's3://sales/\\*.parquet' cannot be read: .*'s3://sales/b.parquet'"


@pytest.mark.parametrize(
    "case",
    [
        no_bucket,
        no_object,
        no_such_object,
        wrong_secret,
        unknown_key,
        key_without_secret,
        server_down,
        no_url,
        cut_object,
    ],
)
def test_s3_that_cannot_be_read_is_named_without_secrets_and_nothing_is_written(
    case, bucket, open_store, monkeypatch, server
):
    path, message = case(bucket, monkeypatch.setenv)
    store = open_store(parquet(path))

    with pytest.raises(InputError, match=message) as caught:
        load(store)

    assert not accounted(store)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert server[2] not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_object_is_named(content, bucket, open_store):
    bucket("a.csv", content)

    with pytest.raises(InputError, match=r"file 's3://sales/a.csv' is empty: not even a header"):
        load(open_store(csv("s3://sales/*.csv")))


def test_s3_is_for_paths_in_s3():
    with pytest.raises(DeclarationError, match=r"loader `csv`: `s3` is for paths that begin with s3://, got 'a.csv'"):
        csv("a.csv", s3=S3())
