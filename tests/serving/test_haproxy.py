"""HAProxy listens at the address of the service and nowhere else."""

import subprocess
import sys

import pytest

from harmonixr_platform.serving.deploy import haproxy
from harmonixr_platform.serving.deploy.haproxy import haproxy_environment

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Ray has HAProxy for Linux alone")

CONFIG = """defaults
    option abortonclose
    option splice-request
    option splice-response
frontend prometheus
    bind :{RAY_SERVE_HAPROXY_METRICS_PORT}
frontend http_frontend
    bind *:8000
listen stats
  bind *:{RAY_SERVE_HAPROXY_STATS_PORT}
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setattr(haproxy, "_binary", lambda: "/bin/cat")
    ports = iter((9101, 8404, 8500, 64_900))
    return haproxy_environment(tmp_path, free_port=lambda: next(ports))


def test_metrics_and_statistics_are_bound_to_loopback_and_the_front_end_stays(environment, tmp_path):
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format_map(environment))
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-f", str(config)]
    # `cat` runs instead of HAProxy; it has no option -f and fails after the file was rewritten.
    subprocess.run(command, capture_output=True, check=False)
    assert "splice" not in config.read_text()
    assert "abortonclose" in config.read_text()
    bound = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
    assert bound == ["127.0.0.1:9101", "*:8000", "127.0.0.1:8404"]


def test_haproxy_does_not_start_when_its_file_cannot_be_rewritten(environment, tmp_path):
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-f", str(tmp_path / "missing.cfg"), __file__]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert not ran.stdout


def test_its_files_are_in_the_given_folder_and_its_ports_in_range(environment, tmp_path):
    places = [value for name, value in environment.items() if name.endswith(("_LOC", "_PATH", "_BASE", "_FILE"))]
    assert places
    assert all(place.startswith(str(tmp_path)) for place in places)
    assert int(environment["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"]) < 65_536


def test_without_a_binary_serve_uses_its_own_proxy(tmp_path, monkeypatch):
    monkeypatch.setattr(haproxy, "_binary", lambda: None)
    assert haproxy_environment(tmp_path, free_port=lambda: 1) == {}
