"""`harmonixr up`: the whole service comes up, is judged, stops, and leaves nothing but what was judged."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def start(state_dir, *options):
    command = [sys.executable, "-m", "harmonixr_platform.cli", "up", "--state-dir", str(state_dir), *options]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def leftovers(state_dir):
    """Processes that carry the state folder in their environment or their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if str(state_dir).encode() in text and int(folder.name) != os.getpid():
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_up_fills_and_judges_over_http_and_leaves_nothing_but_the_judgment(tmp_path):
    process = start(tmp_path, "--check")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "checking serve_config.yaml" in output.splitlines()[0]
    assert "Minuet in G major" in output
    assert "stored: a is better" in output
    assert "http://127.0.0.1:" in output
    assert leftovers(tmp_path) == []
    settings = Settings(state_dir=tmp_path)
    mover = Mover.open(settings)
    mover.run_once()
    mover.close()
    judged = read_feedback(open_object_store(settings)).judged
    assert [(j.judgment.choice.value, j.judgment.simulated) for j in judged] == [("a", True)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_it_starts_leaves_nothing(tmp_path, number):
    process = start(tmp_path)
    for line in process.stdout:
        if "starting the graph" in line:
            break
    time.sleep(2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert leftovers(tmp_path) == []
