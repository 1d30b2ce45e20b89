"""Backups in S3: over s3fs and real HTTP, to moto's server, which speaks S3; `make test-storage` brings both."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cli import app
from tests.fixtures.databases import execute, query, url_of

pytestmark = pytest.mark.s3

BUCKET = "lawsker-backups"
URL = f"s3://{BUCKET}/nightly"


@pytest.fixture(scope="module")
def address():
    """Yield the address of a server that speaks S3."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - `make test-storage` brings it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(address, monkeypatch):
    """Return a client of an S3 with an empty bucket, which the tool finds as it would find any: by AWS_… variables."""
    import boto3  # noqa: PLC0415
    import s3fs  # noqa: PLC0415

    for name, value in (
        ("AWS_ENDPOINT_URL", address), ("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "s3-secret-one"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.delete_bucket(Bucket=BUCKET)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def tool(database, tmp_path, monkeypatch):
    """Return what runs a command on a small database and returns what it prints as JSON."""
    execute(database, "CREATE TABLE t (a int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100)")
    monkeypatch.setenv("DATABASE_URL", url_of(database))
    monkeypatch.setenv("ROLLOUT_DIR", str(tmp_path / "var"))
    return lambda *arguments: json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)


def keys(client):
    """Return the keys in the bucket."""
    return [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_uploaded_proven_and_restored(tool, s3, database, tmp_path):
    """What is proven is what S3 gave back; it holds the same files, the proof too; a restore takes it from there."""
    made = tool("backup", "create", "--to", URL)
    assert (made["exit_code"], made["proven"]) == (0, True), made
    assert [step["name"] for step in made["steps"]][:4] == ["backup", "upload", "download", "check files"]
    name = made["path"].rpartition("/")[2]
    here = tmp_path / "var" / "backups" / name
    local = {
        f"nightly/{name}/{path.relative_to(here)}": path.read_bytes() for path in here.rglob("*") if path.is_file()
    }
    assert {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys(s3)} == local
    assert f"nightly/{name}/proof.json" in local
    assert tool("backup", "verify", f"{URL}/{name}")["proven"] is True
    execute(database, "DELETE FROM t")
    restored = tool("restore", f"{URL}/{name}", "--yes")
    assert (restored["exit_code"], query(database, "SELECT count(*) FROM t")) == (0, 100)
    execute(database.to_database("postgres"), restored["drop_replaced"])


def test_damaged_ones_are_refused(tool, s3, database):
    """A byte that changed, a file cut, one gone, one too many: neither verified nor restored, exit code 7."""
    url = tool("backup", "create", "--to", URL, "--no-proof")["remote"]
    whole = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys(s3)}
    victim = next(key for key in whole if key.endswith(".dat.gz"))
    data = whole[victim]
    damages = [
        {victim: data[:-1] + bytes([data[-1] ^ 1])}, {victim: data[:5]}, {victim: None}, {f"{victim}.more": b"x"},
        {key: None for key in whole if key.endswith(".sha256")},
    ]  # fmt: skip
    for damage in damages:
        for key, content in damage.items():
            if content is None:
                s3.delete_object(Bucket=BUCKET, Key=key)
            else:
                s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        for arguments in (["backup", "verify", url, "--quick"], ["restore", url, "--yes"]):
            told = tool(*arguments)
            assert (told["exit_code"], told["database"]) == (7, "untouched"), (damage.keys(), told)
        for key in set(keys(s3)) - set(whole):
            s3.delete_object(Bucket=BUCKET, Key=key)
        for key, content in whole.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    assert tool("backup", "verify", url, "--quick")["exit_code"] == 0
    assert query(database, "SELECT count(*) FROM t") == 100


@pytest.mark.parametrize("wrong", ["bucket", "address"])
def test_a_storage_that_will_not_do_is_refused_before_the_dump(tool, s3, monkeypatch, tmp_path, wrong):
    """A bucket that is not there is never made, a server that nobody answers: exit code 7 at once, no secret told."""
    url, reason = "s3://mistyped-backups/x", "there is no bucket mistyped-backups"
    if wrong == "address":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        url, reason = URL, "fails: "
    told = tool("backup", "create", "--to", url)
    assert (told["exit_code"], told["database"]) == (7, "untouched"), told
    assert reason in told["error"]["message"]
    assert "\n" not in told["error"]["message"]
    assert "s3-secret-one" not in json.dumps(told)
    assert not (tmp_path / "var" / "backups").exists()
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [BUCKET]


def test_a_bucket_that_went_meanwhile(tool, s3, monkeypatch):
    """It is deleted while we dump: exit code 7 with the reason of S3, and the backup here is whole."""
    monkeypatch.setattr("rollout.backups.remote.require", lambda _: None)
    told = tool("backup", "create", "--to", "s3://mistyped-backups/x")
    assert told["exit_code"] == 7, told
    assert "bucket does not exist" in told["error"]["message"]
    assert [one["problem"] for one in tool("backup", "list")["backups"]] == [None]
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [BUCKET]
