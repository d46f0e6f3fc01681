"""A tiny model with random weights, a composed song, and prompts about it."""

import pytest
import torch

from harmonixr_model.engine.native.library import load_library
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.prompt.coordinates import CONTROL_SIZE

torch.set_num_threads(1)
CONFIG = InfillConfig(width=32, layers=2, heads=2, dropout=0.0, max_length=700, control_values=CONTROL_SIZE)


@pytest.fixture(scope="session")
def tiny_model():
    torch.manual_seed(0)
    model = InfillTransformer(CONFIG).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    torch.nn.init.zeros_(model.embedding.asked.weight[:1])  # nothing asked
    return model


@pytest.fixture(scope="session")
def song():
    return Song.parse(compose_song(3, bars=16))


@pytest.fixture(scope="session")
def prompt_of(song):
    def make(*, bars=(4, 5), tracks=(0, 1), limits=None, controls=None, max_length=CONFIG.max_length):
        region = Region.bars(song.score, *bars, tracks)
        prompt = FillSession(song, region, max_length=max_length, constraints=limits, controls=controls).next_prompt()
        assert prompt is not None
        return prompt

    return make


@pytest.fixture(scope="session")
def library():
    """The compiled library, where there is a compiler."""
    found = load_library(may_compile=True)
    if found is None:
        pytest.skip("there is no C++ compiler")
    return found
