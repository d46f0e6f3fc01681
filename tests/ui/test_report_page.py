"""The report page shows what the service draws, in a frame that can do no harm."""

import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harmonixr_platform.client import Client
from harmonixr_ui.report import framed

PAGE = '<!doctype html><body><p class="x">1 < 2 & "so"</p><script>alert(1)</script></body>'


@pytest.fixture
def report_service() -> Iterator[tuple[str, list[str]]]:
    """A service that answers every GET with one page: its address, and the paths of its requests."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_is_requested_by_study(report_service: tuple[str, list[str]]) -> None:
    address, paths = report_service
    with Client(address) as client:
        assert client.leaderboard_page() == PAGE
        client.leaderboard_page(study="spring & co")
    assert paths == ["/v1/leaderboard/page", "/v1/leaderboard/page?study=spring+%26+co"]


def test_a_framed_page_is_whole_and_may_run_nothing() -> None:
    seen: dict[str, str | None] = {}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "iframe", f"<{tag}> escaped from the frame"
            seen.update(attrs)

    Reader().feed(framed(PAGE))
    assert seen["srcdoc"] == PAGE
    assert "sandbox" in seen
    assert seen["sandbox"] is None
