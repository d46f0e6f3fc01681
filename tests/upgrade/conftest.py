"""What version 0.1.0 wrote, unpacked: see make_v0_1_0.py."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from harmonixr_model.fill.infiller import Infiller
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.files import FileStore

FIXTURES = Path(__file__).parent / "v0_1_0"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def unpack(tmp_path_factory):
    def unpacked(name):
        folder = tmp_path_factory.mktemp(Path(name).stem)
        with zipfile.ZipFile(FIXTURES / name) as archive:
            archive.extractall(folder)
        return folder

    return unpacked


@pytest.fixture(scope="session")
def expected():
    """What the code of 0.1.0 made of the fixtures."""
    return json.loads((FIXTURES / "expected.json").read_text())


@pytest.fixture(scope="module")
def settings(unpack, expected):
    """The settings of a service that 0.1.0 ran and stopped: stores, registry and Redis are in its folder."""
    return Settings(state_dir=unpack("state.zip"), rater_secret=expected["state"]["secret"])


@pytest.fixture(scope="module")
def store(settings):
    return FileStore(settings.state_dir / "objects")


@pytest.fixture(scope="session")
def shipped():
    return Infiller.load()
