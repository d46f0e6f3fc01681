"""What the HTTP answers give away before a vote: of two models, nothing. Real stages and sound, two checkpoints."""

import base64
import json
import re
import secrets
import time
import wave
from io import BytesIO

import numpy as np
import pytest

from harmonixr_model import examples
from harmonixr_model.music.loudness import CEILING_DBTP, measure
from harmonixr_platform.registry import Lineage, open_registry

RATER = "a-rater-with-a-key"
INFILL = {
    "midi_base64": base64.b64encode(examples.load("minuet-in-g")).decode(),
    "region": {"bars": "5-6", "tracks": [1]},
}
# What HTTP itself varies by: nothing of the content.
SIDELESS = ("date",)


@pytest.fixture(scope="module")
def versions(settings, tiny_checkpoints):
    """Champion and challenger, two models for a comparison."""
    registry = open_registry(settings)
    challenger = registry.register("infill", tiny_checkpoints[1], Lineage(note="another"))
    registry.promote("infill", challenger.version, alias="challenger")
    return registry.resolve("infill", "champion"), challenger


@pytest.fixture
def presented(api, versions):
    """A comparison of the two models, as it was answered, and its three sounds."""
    seed = secrets.randbelow(10**6)
    answer = api("POST", "/v1/comparisons", json={"rater_key": RATER, "infill": INFILL | {"sampling": {"seed": seed}}})
    assert answer.status_code == 201, answer.text
    pair = answer.json()
    sounds = [api("GET", pair[side]["audio_url"]) for side in "ab"]
    return answer, pair, [*sounds, api("GET", pair["context_audio_url"])]


def samples(response):
    with wave.open(BytesIO(response.content)) as file:
        audio = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
        return audio.T / 32_768, file.getframerate()


def test_no_response_identifies_a_model(presented, versions):
    answer, pair, sounds = presented
    visible = [answer.text, str(answer.headers), *(str(sound.headers) for sound in sounds)]
    secret = [text for version in versions for text in (version.version, version.sha256)]
    assert [text for text in secret for where in visible if text in where] == []
    assert not re.search("model|version|checkpoint|champion|challenger|swapped|propensity|seed", json.dumps(pair))
    midi = [base64.b64decode(pair[side]["midi_base64"]) for side in "ab"]
    assert [text for text in secret for data in midi if text.encode() in data] == []


def test_the_sounds_of_a_pair_differ_in_their_samples_only(presented):
    _, _, (a, b, context) = presented
    headers = [{k: v for k, v in sound.headers.items() if k not in SIDELESS} for sound in (a, b, context)]
    assert headers[0] == headers[1] == headers[2]
    assert len(a.content) == len(b.content) == len(context.content) == int(a.headers["content-length"])
    assert not {"etag", "last-modified", "server-timing", "content-disposition"} & set(headers[0])
    assert a.content[:44] == b.content[:44]
    assert a.content != b.content


def test_both_candidates_are_equally_loud_under_the_ceiling(presented):
    _, _, (a, b, _) = presented
    first, second = (measure(*samples(sound)) for sound in (a, b))
    assert first.lufs == pytest.approx(second.lufs, abs=0.05)
    assert max(first.peak_dbtp, second.peak_dbtp) <= CEILING_DBTP + 0.05


def test_a_sound_does_not_depend_on_the_order_of_requests(api, versions, stages):
    answer = api("POST", "/v1/comparisons", json={"rater_key": RATER, "infill": INFILL | {"sampling": {"seed": 5}}})
    urls = [answer.json()[side]["audio_url"] for side in "ab"]
    sounds = []
    for order in (urls, urls[::-1]):
        stages["Decoding"]._rendered.cache_clear()
        sounds.append({url: api("GET", url).content for url in order})
    assert sounds[0] == sounds[1]


def test_both_sides_take_equally_long(api, versions):
    """The first request renders both sounds; the second is fast."""
    waits = {"first": [], "second": []}
    for seed in range(11, 15):
        body = INFILL | {"sampling": {"seed": seed}}
        pair = api("POST", "/v1/comparisons", json={"rater_key": RATER, "infill": body}).json()
        for place, side in zip(waits, "ab" if seed % 2 else "ba", strict=True):
            started = time.perf_counter()
            api("GET", pair[side]["audio_url"])
            waits[place].append(time.perf_counter() - started)
    assert max(waits["second"]) < min(waits["first"])


def test_the_challenger_is_equally_often_on_each_side(api, versions):
    """Over 16 pairs a fair coin gives fewer than 2 or more than 14 once in two thousand tries."""
    champion, _ = versions
    on_a = 0
    for seed in range(100, 116):
        body = {"rater_key": RATER, "infill": INFILL | {"sampling": {"seed": seed}, "region": {"bars": "5"}}}
        pair = api("POST", "/v1/comparisons", json=body).json()
        receipt = api("POST", "/v1/judgments", json=_program(pair)).json()
        assert {receipt["model_a"], receipt["model_b"]} == {version.version for version in versions}
        on_a += receipt["model_a"] == champion.version
    assert 2 <= on_a <= 14


def _program(pair):
    return {
        "judgment_id": secrets.token_hex(16), "comparison_id": pair["comparison_id"], "token": pair["token"],
        "rater_key": RATER, "choice": "a", "simulated": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({}, 422, "0% of the fill was heard on side a"),
        ({"listening": {"heard_a": 1, "heard_b": 1}}, 422, "0% of the fill"),
        ({"listening": {"intervals_a": [[0, 900]], "intervals_b": [[0, 900]]}}, 409, "cannot have been heard"),
        ({"listening": {"intervals_a": [[9, 3]]}}, 422, "ends before it begins"),
        ({"listening": {"intervals_a": [[0]]}}, 422, "intervals_a"),
        ({"choice": "tie", "strength": 1}, 422, "strength"),
        ({"choice": "skip"}, 201, ""),
    ],
)
def test_a_judgment_needs_listening(api, changes, status, message):
    body = {"rater_key": RATER, "infill": INFILL | {"sampling": {"seed": 77}}}
    pair = api("POST", "/v1/comparisons", json=body).json()
    answer = api("POST", "/v1/judgments", json=_program(pair) | {"simulated": False} | changes)
    assert answer.status_code == status, answer.text
    assert message in answer.text
