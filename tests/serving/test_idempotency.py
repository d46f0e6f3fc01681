"""The same Idempotency-Key gives the same response from every replica, with Redis or without."""

import asyncio
import base64

import pytest

from harmonixr_model import examples
from harmonixr_platform.serving.infill.redis_response_cache import CachedResponse, RedisResponseCache
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.streams import RecordStream

MINUET = base64.b64encode(examples.load("minuet-in-g")).decode()
BODY = {"midi_base64": MINUET, "region": {"bars": "5-6", "tracks": [1]}, "sampling": {"n": 2}}


class Counting:
    """A Model stage that counts what is generated."""

    def __init__(self, model):
        self._model = model
        self.generated = 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    async def generate(self, version, request):
        self.generated += 1
        return await self._model.generate(version, request)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_cache(redis):
    redis_cache = RedisResponseCache(RecordStream(redis, timeout_s=2), capacity=8, ttl_s=60)
    yield redis_cache
    redis_cache.close()


def infill(api, key, **changes):
    return api("POST", "/v1/infill", json=BODY | changes, headers={"Idempotency-Key": key})


def comparable(response):
    body = response.json()
    return body | {"timings_ms": 0, "candidates": [c | {"audio_url": ""} for c in body["candidates"]]}


def test_another_replica_gives_the_same_response_without_the_model(make_api, stages, redis_cache):
    model = Counting(stages["Model"])
    replicas = [make_api({"Model": model}, redis_cache=redis_cache) for _ in range(2)]
    first = infill(replicas[0], "key-of-two-replicas")
    again = infill(replicas[1], "key-of-two-replicas")
    assert first.status_code == again.status_code == 200, again.text
    assert model.generated == 1
    assert comparable(first) == comparable(again)
    url = again.json()["candidates"][0]["audio_url"]
    assert replicas[1]("GET", url).content[:4] == b"RIFF"


def test_a_key_of_another_request_is_refused_by_every_replica(make_api, redis_cache):
    infill(make_api(redis_cache=redis_cache), "key-of-one-request")
    refused = infill(make_api(redis_cache=redis_cache), "key-of-one-request", region={"bars": "7", "tracks": [1]})
    assert refused.status_code == 422
    assert "Idempotency-Key" in refused.json()["detail"]


def test_callers_do_not_share_keys(make_api, redis_cache):
    one, two = (make_api(redis_cache=redis_cache, keys=["first-key", "second-key"]) for _ in range(2))
    responses = [
        api("POST", "/v1/infill", json=body, headers={"Idempotency-Key": "shared", "X-API-Key": key})
        for api, key, body in ((one, "first-key", BODY), (two, "second-key", BODY | {"sampling": {"n": 1}}))
    ]
    assert [response.status_code for response in responses] == [200, 200]


def test_redis_caches_a_limited_number_for_a_limited_time(redis):
    redis_cache = RedisResponseCache(RecordStream(redis, timeout_s=2), capacity=2, ttl_s=2)
    response = CachedResponse(
        digest="d",
        request_id="r",
        model_version="v",
        checkpoint_sha256="s",
        max_length=1,
        reward_version=None,
        seed=1,
        candidates=(),
    )

    async def run():
        for i in range(4):
            await redis_cache.put(str(i), response)
        cached = [await redis_cache.get(str(i)) for i in range(4)]
        await asyncio.sleep(2.1)
        return cached, await redis_cache.get("3")

    try:
        assert asyncio.run(run()) == ([None, None, response, response], None)
    finally:
        redis_cache.close()


def test_without_redis_the_response_is_computed_again_and_is_the_same(make_api, stages):
    class Away:
        calls = 0

        def read_hash(self, key):
            self.calls += 1
            raise StoreUnavailable("Redis does not response")

        run_script = read_hash

    model, away = Counting(stages["Model"]), Away()
    redis_cache = RedisResponseCache(away, capacity=8, ttl_s=60)
    first, again = (infill(make_api({"Model": model}, redis_cache=redis_cache), "key-without-redis") for _ in range(2))
    assert model.generated == 2
    assert first.json()["candidates"][0]["midi_base64"] == again.json()["candidates"][0]["midi_base64"]
    # After a failure Redis is not called again for a while.
    assert away.calls == 1
