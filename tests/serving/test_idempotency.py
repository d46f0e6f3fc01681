"""The same Idempotency-Key gives the same answer, from whichever replica it is asked, with Redis or without."""

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

    async def generate(self, version, ask):
        self.generated += 1
        return await self._model.generate(version, ask)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def recall(redis):
    recall = RedisResponseCache(RecordStream(redis, timeout_s=2), capacity=8, keep_s=60)
    yield recall
    recall.close()


def ask(api, key, **changes):
    return api("POST", "/v1/infill", json=BODY | changes, headers={"Idempotency-Key": key})


def without_what_differs(answer):
    body = answer.json()
    return body | {"timings_ms": 0, "candidates": [c | {"audio_url": ""} for c in body["candidates"]]}


def test_another_replica_gives_the_same_answer_without_the_model(make_api, stages, recall):
    model = Counting(stages["Model"])
    replicas = [make_api({"Model": model}, recall=recall) for _ in range(2)]
    first = ask(replicas[0], "key-of-two-replicas")
    again = ask(replicas[1], "key-of-two-replicas")
    assert first.status_code == again.status_code == 200, again.text
    assert model.generated == 1
    assert without_what_differs(first) == without_what_differs(again)
    url = again.json()["candidates"][0]["audio_url"]
    assert replicas[1]("GET", url).content[:4] == b"RIFF"


def test_a_key_of_another_request_is_refused_by_every_replica(make_api, recall):
    ask(make_api(recall=recall), "key-of-one-request")
    refused = ask(make_api(recall=recall), "key-of-one-request", region={"bars": "7", "tracks": [1]})
    assert refused.status_code == 422
    assert "Idempotency-Key" in refused.json()["detail"]


def test_keys_of_one_caller_are_not_those_of_another(make_api, recall):
    one, two = (make_api(recall=recall, keys=["first-key", "second-key"]) for _ in range(2))
    answers = [
        api("POST", "/v1/infill", json=body, headers={"Idempotency-Key": "shared", "X-API-Key": key})
        for api, key, body in ((one, "first-key", BODY), (two, "second-key", BODY | {"sampling": {"n": 1}}))
    ]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_only_so_many_answers_are_kept_and_only_for_a_while(redis):
    recall = RedisResponseCache(RecordStream(redis, timeout_s=2), capacity=2, keep_s=2)
    answer = CachedResponse(
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
            await recall.put(str(i), answer)
        kept = [await recall.get(str(i)) for i in range(4)]
        await asyncio.sleep(2.1)
        return kept, await recall.get("3")

    try:
        assert asyncio.run(run()) == ([None, None, answer, answer], None)
    finally:
        recall.close()


def test_without_redis_the_answer_is_computed_again_and_is_the_same(make_api, stages):
    class Away:
        asked = 0

        def read_hash(self, key):
            self.asked += 1
            raise StoreUnavailable("Redis does not answer")

        run_script = read_hash

    model, away = Counting(stages["Model"]), Away()
    recall = RedisResponseCache(away, capacity=8, keep_s=60)
    first, again = (ask(make_api({"Model": model}, recall=recall), "key-without-redis") for _ in range(2))
    assert model.generated == 2
    assert first.json()["candidates"][0]["midi_base64"] == again.json()["candidates"][0]["midi_base64"]
    # A Redis that is away is not asked again for a while: nobody waits for it twice.
    assert away.asked == 1
