"""What a request says of drawing reaches the engine as it was said, and what it leaves out as left out."""

import pytest
from pydantic import ValidationError

from harmonixr_model.engine.engine import Sampling
from harmonixr_platform.requests import sampling_of
from harmonixr_platform.schemas import SamplingSpec, temperature_text


def test_what_is_left_out_is_left_to_the_tracks_and_to_what_is_asked():
    assert sampling_of(SamplingSpec()) == Sampling()
    assert temperature_text(SamplingSpec().temperature) == "0.8, drums 0.6"


def test_what_is_said_is_what_is_drawn_by():
    spec = SamplingSpec(temperature=0.8, top_k=9, top_p=0.5, guidance=3, recall=0.25)
    assert sampling_of(spec) == Sampling(temperature=0.8, top_k=9, top_p=0.5, guidance=3, recall=0.25)
    assert temperature_text(spec.temperature) == "0.8"


@pytest.mark.parametrize("guidance", [-1, 11])
def test_guidance_out_of_range_is_refused(guidance):
    with pytest.raises(ValidationError, match="guidance"):
        SamplingSpec(guidance=guidance)
