"""Stores for the contract tests: local files, moto's S3 server, and a real S3 server where one is named."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.s3 import S3Store


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["files", "moto", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "files":
        return FileStore(tmp_path / "objects")
    if request.param == "moto":
        return s3_store(request.getfixturevalue("moto_url"), "test", "test")
    return real_s3_store()


def s3_store(url: str, access_key: str, secret_key: str, prefix: str = "") -> S3Store:
    store = S3Store(
        "contracts",
        prefix or f"run-{secrets.token_hex(6)}",
        endpoint_url=url,
        access_key=access_key,
        secret_key=secret_key,
    )
    store.create_bucket()
    return store


def real_s3_store() -> S3Store:
    url = os.environ.get("HARMONIXR_TEST_S3_URL")
    if not url:
        pytest.skip("HARMONIXR_TEST_S3_URL names no S3 server")
    return s3_store(
        url,
        os.environ.get("S3_ACCESS_KEY", "testaccess"),
        os.environ.get("S3_SECRET_KEY", "testsecret0123456789"),
    )
