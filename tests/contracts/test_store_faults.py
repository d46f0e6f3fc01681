"""What each object store does when something is wrong beneath it."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.stores.errors import ConditionFailed, StoreError, StoreUnavailable
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.objects import probe_conditions
from harmonixr_platform.stores.s3 import S3Store

_WRITER = """
import sys
from pathlib import Path
from harmonixr_platform.stores.files import FileStore
store = FileStore(Path(sys.argv[1]))
for i in range(100000):
    store.put_if_absent(f"acknowledged/{i:06d}", b"x" * 4096)
    store.put("replaced", b"%d" % i * 4096)
    print(i, flush=True)
"""


class _Forgetful(FileStore):
    """A server that takes conditional headers and ignores them."""

    def put_if_absent(self, key: str, data: bytes) -> str:
        return self.put(key, data)


def test_the_probe_finds_a_store_that_overwrites_silently(tmp_path: Path) -> None:
    store = _Forgetful(tmp_path)
    with pytest.raises(StoreUnavailable, match="ignores If-None-Match"):
        probe_conditions(store)
    assert store.list() == ()


def test_kill_9_of_a_writer_loses_no_written_file_and_leaves_none_torn(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    written = [int(writer.stdout.readline()) for _ in range(60)]
    writer.kill()
    written += [int(line) for line in writer.stdout.read().split("\n") if line]
    writer.stdout.close()
    writer.wait()
    store = FileStore(tmp_path)
    for i in written:
        assert store.get(f"acknowledged/{i:06d}").data == b"x" * 4096
    replaced = store.get("replaced").data
    assert int(replaced[: len(replaced) // 4096]) >= written[-1]
    store.put("replaced", b"after")  # the dead writer's lock is free


def test_an_unwritable_folder_gives_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="check the disk and the permissions"):
        FileStore(tmp_path / "file" / "objects").put("key", b"")


def test_an_unreachable_s3_server_is_unavailable() -> None:
    store = S3Store("bucket", endpoint_url="http://127.0.0.1:9", access_key="a", secret_key="b")
    with pytest.raises(StoreUnavailable, match="does not respond"):
        store.get("key")


def test_a_missing_bucket_is_named(moto_url: str) -> None:
    store = S3Store("no-such-bucket", endpoint_url=moto_url, access_key="a", secret_key="b")
    with pytest.raises(StoreUnavailable, match=r"s3://no-such-bucket .* create the bucket"):
        store.put("key", b"")


def test_settings_choose_the_store(tmp_path: Path, moto_url: str) -> None:
    files = open_object_store(Settings(state_dir=tmp_path / "with space"))
    files.put("key", b"1")
    assert (tmp_path / "with space" / "objects" / "key").read_bytes() == b"1"
    s3 = open_object_store(
        Settings(
            state_dir=tmp_path,
            object_store_url="s3://chosen/deep/prefix",
            s3_endpoint_url=moto_url,
            s3_access_key="a",  # type: ignore[arg-type]
            s3_secret_key="b",  # type: ignore[arg-type]
        )
    )
    assert isinstance(s3, S3Store)
    s3.create_bucket()
    s3.put("key", b"1")
    assert S3Store("chosen", endpoint_url=moto_url, access_key="a", secret_key="b").list() == ("deep/prefix/key",)


class _LosesAnswers(BaseHTTPRequestHandler):
    """An S3 of one key that carries a conditional PUT out and then answers 500, once; the retry meets 412."""

    metadata = ""
    failures = 0

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        cls = type(self)
        if cls.metadata:
            return self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        cls.metadata = self.headers["x-amz-meta-writer"]
        cls.failures += 1
        return self._answer(500, b"<Error><Code>InternalError</Code></Error>")

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"tag"')
        self.send_header("x-amz-meta-writer", self.metadata)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_conditional_write_with_a_lost_response_is_recognised() -> None:
    class Server(_LosesAnswers):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        store = S3Store("bucket", endpoint_url=url, access_key="a", secret_key="b")
        assert store.put_if_absent("key", b"one") == "tag"
        assert Server.failures == 1
        with pytest.raises(ConditionFailed):
            store.put_if_absent("key", b"two")
    finally:
        server.shutdown()
        server.server_close()


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(StoreError, match="names no bucket"):
        open_object_store(Settings(state_dir=Path(os.devnull).parent, object_store_url="s3:///prefix"))
