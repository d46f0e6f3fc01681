"""The graph on a real Ray Serve, with an engine of our own in the Model stage's place."""

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harmonixr_model import examples
from harmonixr_platform.client import Client, ServiceError
from harmonixr_platform.registry import Lineage, open_registry
from harmonixr_platform.schemas import (
    CandidateView,
    InfillAccepted,
    InfillBar,
    InfillDone,
    RegionSpec,
    SamplingSpec,
)
from harmonixr_platform.serving.deploy.local_ray import LocalRay, free_port, session_members
from harmonixr_platform.settings import Settings

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

MINUET = examples.load("minuet-in-g")
GAP = RegionSpec(bars="5-6", tracks=[1])
SLOW = SamplingSpec(seed=1, temperature=5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny_checkpoints):
    folder = tmp_path_factory.mktemp("ray")
    registry = open_registry(Settings(state_dir=folder))
    registry.promote("infill", registry.register("infill", tiny_checkpoints[0], Lineage()).version)
    cluster = LocalRay(log=folder / "ray.log", environment=os.environ | {"HARMONIXR_STATE_DIR": str(folder)})
    try:
        while not cluster.is_up():
            time.sleep(0.1)
        port = free_port()
        graph = Path(__file__).with_name("dice_graph.py")
        # A process of its own: Ray reads its token once, when it is first imported.
        command = [sys.executable, str(graph), cluster.address, str(port)]
        subprocess.run(command, env=cluster.environment, check=True, timeout=600)
        cluster.url = f"http://127.0.0.1:{port}"
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def client(cluster):
    with Client(cluster.url, timeout_s=300) as client:
        yield client


def replicas(cluster, deployment):
    leader = cluster.process._process.pid
    names = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in session_members(leader)}
    return [pid for pid, name in names.items() if f"ServeReplica:harmonixr:{deployment}" in name]


def test_a_fill_passes_through_every_stage_and_is_the_same_for_its_seed(client):
    assert client.is_ready()
    one, two = (client.infill(MINUET, GAP, sampling=SamplingSpec(seed=3, n=2)) for _ in range(2))
    assert [c.tokens for c in one.candidates] == [c.tokens for c in two.candidates]
    assert client.sound(one.candidates[0].audio_url)[:4] == b"RIFF"
    assert base64.b64decode(one.candidates[0].midi_base64) != MINUET


def test_bars_are_streamed_while_the_rest_is_decoded(client):
    started = time.monotonic()
    events = [(event, time.monotonic() - started) for event in client.infill_stream(MINUET, GAP, sampling=SLOW)]
    kinds = [type(event) for event, _ in events]
    assert kinds == [InfillAccepted, InfillBar, InfillBar, CandidateView, InfillDone]
    # The dice take four seconds over a fill of two bars.
    assert events[1][1] < events[4][1] - 1
    answer = client.infill(MINUET, GAP, sampling=SLOW)
    assert events[3][0].tokens == answer.candidates[0].tokens


@pytest.mark.parametrize("is_streamed", [True, False])
def test_hanging_up_cancels_in_the_model_stage(cluster, client, is_streamed):
    mark = Path(cluster.environment["HARMONIXR_STATE_DIR"]) / "cancelled"
    mark.unlink(missing_ok=True)
    if is_streamed:
        stream = client.infill_stream(MINUET, GAP, sampling=SLOW)
        next(stream)
        stream.close()
    else:
        with Client(cluster.url, timeout_s=1.5, attempts=1) as hasty, pytest.raises(ServiceError, match="too long"):
            hasty.infill(MINUET, GAP, sampling=SLOW)
    deadline = time.monotonic() + 20
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mark.exists()


def test_errors_of_inner_stages_arrive_as_problems_without_traces(client):
    with pytest.raises(ServiceError, match="choose bars within") as caught:
        client.infill(MINUET, RegionSpec(bars="99"))
    assert caught.value.status == 422
    assert "ray" not in str(caught.value).lower()
    with pytest.raises(ServiceError, match="latest versions are") as caught:
        client.infill(MINUET, GAP, model="ffffffffffff")
    assert caught.value.status == 404
    with pytest.raises(ServiceError, match="reward model") as caught:
        client.infill(MINUET, GAP, sampling=SamplingSpec(best_of=2))
    assert caught.value.status == 409


def test_stages_without_weights_hold_no_torch(cluster, client):
    for deployment in ("Ingress", "Tokenization", "Decoding", "Feedback"):
        (pid,) = replicas(cluster, deployment)
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text(), deployment


def test_a_request_survives_the_death_of_its_replica(cluster, client):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.infill(MINUET, GAP, sampling=SLOW)))
    thread.start()
    time.sleep(2)
    (pid,) = replicas(cluster, "Model")
    os.kill(pid, signal.SIGKILL)
    thread.join()
    assert answers[0].candidates
    assert replicas(cluster, "Model") != [pid]


def test_a_judgment_is_stored_by_the_feedback_stage(client):
    from harmonixr_platform.schemas import Choice, InfillRequest

    infill = InfillRequest(midi_base64=base64.b64encode(MINUET).decode(), region=GAP)
    comparison = client.compare("a-rater-of-tests", infill=infill)
    receipt = client.judge(comparison, Choice.TIE, rater_key="a-rater-of-tests", simulated=True)
    assert receipt.stored
    assert not receipt.duplicate
