"""The page as its own process serves it: from this machine alone, ended by a signal."""

import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest


@pytest.fixture
def served():
    """The command, started on a free port: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "harmonixr_ui", "--api", "http://127.0.0.1:9", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "the page did not come up"
        try:
            httpx.get(address, timeout=10)
            break
        except httpx.TransportError:
            time.sleep(0.1)
    yield address, process
    process.kill()
    process.communicate()


def test_the_page_names_nothing_from_elsewhere_and_ends_on_a_signal(served):
    address, process = served
    page = httpx.get(address, timeout=30)
    assert "Harmonixr" in page.text
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+?(?:src|href)=[\"']([^\"']+)", page.text)
    assert loaded
    assert [url for url in loaded if url.startswith(("http:", "https:", "//")) and not url.startswith(address)] == []
    assert "http://127.0.0.1:9" not in page.text, "the browser never learns where the service is"
    theme = httpx.get(f"{address}/theme.css", timeout=30)
    assert re.findall(r"url\([\"']?https?:", theme.text) == []
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert "Traceback" not in process.stderr.read()


def test_the_command_lists_its_options():
    printed = subprocess.run(
        [sys.executable, "-m", "harmonixr_ui", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in ("--api", "--host", "--port", "--pool", "127.0.0.1"):
        assert option in printed
