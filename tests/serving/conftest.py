"""The whole graph in one process: the real stages, a tiny real model, real stores, no Ray."""

import asyncio
import warnings

import httpx
import pytest

with warnings.catch_warnings():
    # Ray's own schemas use what pydantic deprecates; imported once here, before warnings are errors.
    warnings.simplefilter("ignore")
    import ray.serve  # noqa: F401

from harmonixr_model import examples
from harmonixr_platform.registry import Lineage, open_registry
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.settings import Settings

MINUET = examples.load("minuet-in-g")


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory):
    """Two untrained models small enough to answer at once."""
    import torch

    from harmonixr_model.infill.checkpoint import save_checkpoint
    from harmonixr_model.infill.config import InfillConfig
    from harmonixr_model.infill.model import InfillTransformer

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = InfillTransformer(InfillConfig(width=32, layers=1, heads=2, dropout=0.0, max_length=2048))
        paths.append(folder / f"tiny-{seed}.safetensors")
        save_checkpoint(paths[-1], model, info={})
    return paths


@pytest.fixture(scope="module")
def settings(tmp_path_factory, tiny_checkpoints):
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"))
    registry = open_registry(settings)
    version = registry.register("infill", tiny_checkpoints[0], Lineage(note="tiny"))
    registry.set_alias("infill", "champion", version.version, expected=None)
    return settings


@pytest.fixture(scope="module")
def stages(settings):
    from harmonixr_platform.serving.stages.decoding import Decoding
    from harmonixr_platform.serving.stages.feedback import Feedback
    from harmonixr_platform.serving.stages.loading import load_engine
    from harmonixr_platform.serving.stages.model import Model
    from harmonixr_platform.serving.stages.reward import Reward
    from harmonixr_platform.serving.stages.tokenization import Tokenization

    # Without the compiled step, so that the library on its own gives the same fills.
    args = ServingArgs(alias_refresh_s=0, compiled=False)
    registry = open_registry(settings)
    feedback = Feedback(args, settings=settings)
    model = Model(args, load_engine, registry=registry)
    yield {
        "Tokenization": Tokenization(args),
        "Model": model,
        "Decoding": Decoding(args),
        "Reward": Reward(args, registry=registry),
        "Feedback": feedback,
    }
    feedback.stop()
    model.stop()


class Api:
    """The HTTP application, called without a socket."""

    def __init__(self, stages, args, *, redis_cache=None, **options):
        from harmonixr_platform.serving.http.api import make_api
        from harmonixr_platform.serving.infill.service import Service
        from harmonixr_platform.serving.transport.stages import LocalCall, Stages

        self.service = Service(Stages(LocalCall(stages)), args, redis_cache=redis_cache)
        self.app = make_api(self.service, args, **options)

    def __call__(self, method, path, **options):
        return self.together((method, path, options))[0]

    def together(self, *requests):
        async def send():
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
                responses = await asyncio.gather(*(http.request(m, p, **o) for m, p, o in requests))
                await asyncio.gather(*self.service._background)
                return responses

        return asyncio.run(send())


@pytest.fixture
def api(stages):
    return Api(stages, ServingArgs(alias_refresh_s=0))


@pytest.fixture
def make_api(stages):
    def make(replaced=(), keys=(), redis_cache=None, **args):
        return Api({**stages, **dict(replaced)}, ServingArgs(**args), api_keys=keys, redis_cache=redis_cache)

    return make
