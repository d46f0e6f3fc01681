import pytest
import torch

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.training.composed_corpus import write_composed_corpus

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return Corpus.open(write_composed_corpus(tmp_path_factory.mktemp("corpus") / "c", pieces=16, bars=16))
