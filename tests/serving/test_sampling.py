"""Sampling settings of a request reach the engine unchanged; settings left out keep their defaults."""

import pytest
from pydantic import ValidationError

from harmonixr_model.engine.engine import Sampling
from harmonixr_platform.requests import sampling_of
from harmonixr_platform.schemas import SamplingSpec, temperature_text
from harmonixr_platform.schemas.base import content_json


def test_settings_left_out_keep_their_defaults():
    assert sampling_of(SamplingSpec()) == Sampling()
    assert temperature_text(SamplingSpec().temperature) == "0.8, drums 0.6"


def test_settings_reach_the_engine_unchanged():
    spec = SamplingSpec(temperature=0.8, top_k=9, top_p=0.5, guidance=3, copy_strength=0.25)
    assert sampling_of(spec) == Sampling(temperature=0.8, top_k=9, top_p=0.5, guidance=3, copy_strength=0.25)
    assert temperature_text(spec.temperature) == "0.8"


@pytest.mark.parametrize("guidance", [-1, 11])
def test_guidance_out_of_range_is_refused(guidance):
    with pytest.raises(ValidationError, match="guidance"):
        SamplingSpec(guidance=guidance)


@pytest.mark.parametrize("name", ["copy_strength", "recall"])
def test_copy_strength_is_accepted_under_both_names_and_stored_as_recall(name):
    spec = SamplingSpec.model_validate_json(f'{{"{name}": 0.25}}')
    assert spec == SamplingSpec(copy_strength=0.25)
    assert '"recall":0.25' in spec.model_dump_json()
    assert (
        content_json(spec)
        == '{"best_of":null,"n":1,"recall":0.25,"seed":null,"temperature":null,"top_k":0,"top_p":0.98}'
    )
    assert SamplingSpec.model_validate_json(spec.model_dump_json()) == spec
