"""Versions in the Model stage, calls between stages, and processes with their children."""

import asyncio
import os
import subprocess
import sys
import time

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from harmonixr_model.errors import CheckpointError, HarmonixrError, RegionError
from harmonixr_platform.registry import Lineage, RegistryError, open_registry
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.deploy.local_ray import OwnProcess, StartFailed, free_port, session_members
from harmonixr_platform.serving.errors import NoRewardModel, Overloaded, Unavailable
from harmonixr_platform.serving.stages.ingress import RemoteCall
from harmonixr_platform.serving.stages.loading import LoadedEngine
from harmonixr_platform.serving.stages.model import Model
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.errors import StoreUnavailable


@pytest.fixture
def registry(tmp_path, tiny_checkpoints):
    registry = open_registry(Settings(state_dir=tmp_path))
    versions = [registry.register("infill", path, Lineage()).version for path in tiny_checkpoints]
    registry.promote("infill", versions[0])
    return registry


class IdleEngine:
    """Takes no request; records how it was closed."""

    drained = None

    def close(self, *, drain=True):
        self.drained = drain


def fake_model(registry, **args):
    loads = []

    def load(path, args):
        loads.append(LoadedEngine(IdleEngine(), 100))
        return loads[-1]

    return Model(ServingArgs(**args), load, registry=registry), loads


async def until(check):
    async with asyncio.timeout(20):
        while not (found := await check()):
            await asyncio.sleep(0.01)
    return found


def test_a_promotion_takes_effect_without_a_restart_and_delays_no_request(registry):
    first, second = (v.version for v in registry.versions("infill"))
    champion = registry.resolve("infill").version
    other = second if champion == first else first
    model, loads = fake_model(registry, alias_refresh_s=0)

    async def has_moved():
        return (await model.describe("champion")).version == other

    async def run():
        before = await model.describe("champion")
        registry.promote("infill", other)
        # The new one is not loaded yet: the old one answers meanwhile.
        meanwhile = await model.describe("champion")
        await until(has_moved)
        registry.rollback("infill")
        # Both are loaded by now.
        return before, meanwhile, await model.describe("champion"), await model.describe(other[:6])

    before, meanwhile, back, by_name = asyncio.run(run())
    assert (before.version, meanwhile.version, back.version, by_name.version) == (champion, champion, champion, other)
    assert len(loads) == 2


def test_a_new_version_that_cannot_be_loaded_leaves_the_old_one_in_service(registry):
    champion = registry.resolve("infill").version
    other = next(v.version for v in registry.versions("infill") if v.version != champion)
    model, _ = fake_model(registry, alias_refresh_s=0)

    def broken(path, args):
        raise CheckpointError("the weights are damaged")

    async def run():
        await model.describe("champion")
        model._versions._load = broken
        registry.promote("infill", other)
        for _ in range(5):
            assert (await model.describe("champion")).version == champion
            await asyncio.sleep(0.02)

    asyncio.run(run())


def test_a_loaded_version_is_served_while_the_registry_is_down(registry, monkeypatch):
    champion = registry.resolve("infill").version
    model, _ = fake_model(registry, alias_refresh_s=0)

    def away(name, reference):
        raise StoreUnavailable("the object store does not answer")

    async def run():
        await model.describe("champion")
        monkeypatch.setattr(registry, "resolve", away)
        return await model.describe("champion")

    assert asyncio.run(run()).version == champion


def test_user_config_pins_the_champion(registry):
    pinned = next(v.version for v in registry.versions("infill") if v != registry.resolve("infill"))
    model, loads = fake_model(registry)

    async def run():
        await model.reconfigure({"champion": pinned})
        loaded = len(loads)
        return loaded, await model.describe("champion")

    loaded, info = asyncio.run(run())
    assert loaded == 1
    assert info.version == pinned


def test_a_canary_gets_its_share_of_callers_always_the_same_ones(registry):
    champion = registry.resolve("infill").version
    other = next(v.version for v in registry.versions("infill") if v.version != champion)
    registry.promote("infill", other, alias="challenger")
    model, loads = fake_model(registry)
    callers = [f"session-{i}" for i in range(2000)]

    async def chosen(share):
        await model.reconfigure({"canary": "challenger", "canary_share": share})
        route = await model.route()
        return {caller for caller in callers if route.choose(caller).version == other}

    async def run():
        return [await chosen(share) for share in (0.0, 0.1, 0.3, 1.0)]

    none, few, more, everybody = asyncio.run(run())
    assert none == set()
    assert 130 < len(few) < 270
    assert few < more < everybody == set(callers)
    assert len(loads) == 2


def test_a_missing_canary_leaves_all_callers_to_the_champion(registry):
    model, _ = fake_model(registry)

    async def run():
        await model.reconfigure({"canary": "challenger", "canary_share": 1.0})
        return (await model.route()).choose("anybody")

    assert asyncio.run(run()).version == registry.resolve("infill").version


def test_the_least_recently_used_model_is_dropped_after_its_requests(registry):
    model, loads = fake_model(registry, loaded_models=1)
    first, second = (v.version for v in registry.versions("infill"))

    async def run():
        for version in (first, second, first):
            await model.describe(version)

    asyncio.run(run())
    assert [loaded.engine.drained for loaded in loads] == [True, True, None]


def test_a_model_stage_without_weights_starts_and_names_the_remedy(tmp_path):
    model, _ = fake_model(open_registry(Settings(state_dir=tmp_path)))

    async def run():
        await model.reconfigure({})
        await model.describe("champion")

    with pytest.raises(RegistryError, match="train or register one"):
        asyncio.run(run())


class Handle:
    """A deployment handle whose replicas respond from a list."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.cancelled = 0

    def __getattr__(self, method):
        return self

    def remote(self, *args):
        return Response(self, self.answers.pop(0))

    def options(self, *, stream):
        assert stream
        return self


class Response:
    def __init__(self, handle, answer):
        self.handle, self.answer = handle, answer

    def cancel(self):
        self.handle.cancelled += 1

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def __aiter__(self):
        for item in self.answer:
            await asyncio.sleep(0)
            if isinstance(item, BaseException):
                raise item
            yield item


def call(*answers):
    handle = Handle(*answers)
    return asyncio.run(RemoteCall({"Model": handle})("Model", "describe", "champion"))


def test_a_call_whose_replica_died_is_made_once_more():
    assert call(ActorDiedError(), "answer") == "answer"
    with pytest.raises(Unavailable, match="is restarting"):
        call(ActorDiedError(), ActorDiedError())


def test_a_stream_whose_replica_died_starts_again():
    async def collect(*answers):
        handle = Handle(*answers)
        try:
            return [item async for item in RemoteCall({"Model": handle}).stream("Model", "stream")], handle.cancelled
        except HarmonixrError as error:
            return error, handle.cancelled

    assert asyncio.run(collect("ab")) == (["a", "b"], 0)
    assert asyncio.run(collect(["a", ActorDiedError()], "ab"))[0] == ["a", "a", "b"]
    assert isinstance(asyncio.run(collect([ActorDiedError()], [ActorDiedError()]))[0], Unavailable)
    error = RayTaskError("f", "Traceback: long", RegionError("bars 9 lie outside")).as_instanceof_cause()
    assert type(asyncio.run(collect(["a", error]))[0]) is RegionError


def test_closing_a_stream_cancels_it_in_the_other_stage():
    handle = Handle("abc")

    async def run():
        stream = RemoteCall({"Model": handle}).stream("Model", "stream")
        assert await anext(stream) == "a"
        await stream.aclose()

    asyncio.run(run())
    assert handle.cancelled == 1


def test_an_error_of_another_stage_keeps_its_type_without_its_traceback():
    error = RayTaskError("f", "Traceback: long", RegionError("bars 9 lie outside")).as_instanceof_cause()
    with pytest.raises(RegionError) as caught:
        call(error)
    assert str(caught.value) == "bars 9 lie outside"
    assert type(caught.value) is RegionError


def test_a_full_queue_is_an_overload():
    with pytest.raises(Overloaded):
        call(BackPressureError(num_queued_requests=9, max_queued_requests=8))


def test_a_graph_without_a_reward_stage_names_it():
    with pytest.raises(NoRewardModel, match="Reward"):
        asyncio.run(RemoteCall({})("Reward", "score"))


def test_a_process_ends_with_its_children_also_those_that_ignore_sigterm(tmp_path):
    script = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], process_group=0);"
        "print('up', flush=True); time.sleep(600)"
    )
    process = OwnProcess("test", [sys.executable, "-c", script], log=tmp_path / "log", environment=os.environ)
    deadline = time.monotonic() + 20
    while not process.has_logged("up") and time.monotonic() < deadline:
        time.sleep(0.05)
    leader = process._process.pid
    assert len(session_members(leader)) == 2
    process.stop(grace_s=0.2)
    assert session_members(leader) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals a child when its parent dies")
def test_a_process_ends_when_its_parent_is_killed(tmp_path):
    log = tmp_path / "log"
    script = (
        "import os, pathlib, sys, time; from harmonixr_platform.serving.deploy.local_ray import OwnProcess;"
        f"p = OwnProcess('t', [sys.executable, '-c', 'import time; time.sleep(600)'], log=pathlib.Path({str(log)!r}),"
        " environment=os.environ); print(p._process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    leader = int(parent.stdout.readline())
    assert session_members(leader) == [leader]
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while session_members(leader) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session_members(leader) == []


def test_the_error_of_a_process_quotes_its_log(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('no room')"]
    process = OwnProcess("the graph", command, log=tmp_path / "log", environment=os.environ)
    process._process.wait(timeout=20)
    with pytest.raises(StartFailed, match="the graph ended with status 1: no room"):
        process.check()


def test_a_port_in_use_is_skipped():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


def test_doctor_names_each_fault_and_its_remedy(tmp_path):
    environment = {**os.environ, "HARMONIXR_REDIS_URL": "redis://127.0.0.1:1/0"}
    command = [sys.executable, "-m", "harmonixr_platform.cli", "doctor", "--state-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 1
    lines = {line[6:].split("  ")[0].strip(): line for line in result.stdout.splitlines()}
    assert lines["redis"].startswith("fail")
    assert lines["object store"].startswith("ok")
    assert lines["serve config"].startswith("ok")
    assert result.stderr == ""


def test_up_refuses_a_misspelt_config_before_starting_anything(tmp_path):
    config = tmp_path / "serve_config.yaml"
    config.write_text("aplications: []\n")
    command = [sys.executable, "-m", "harmonixr_platform.cli", "up", "--config", str(config)]
    result = subprocess.run([*command, "--state-dir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "did you mean applications?" in result.stderr
    assert not (tmp_path / "redis").exists()
