"""Bind the graph: Ingress → Tokenization → Model → Decoding (→ Reward), and Feedback.

serve_config.yaml names `build_app`, which takes a dict: under postponed annotations Serve passes one in any case.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.stages.decoding import Decoding
from harmonixr_platform.serving.stages.feedback import Feedback
from harmonixr_platform.serving.stages.ingress import Ingress
from harmonixr_platform.serving.stages.loading import EngineLoader, load_engine
from harmonixr_platform.serving.stages.model import Model
from harmonixr_platform.serving.stages.reward import Reward
from harmonixr_platform.serving.stages.tokenization import Tokenization


def build_app(args: dict[str, Any]) -> Application:
    """Return the graph with the `args` of serve_config.yaml."""
    return build_graph(ServingArgs.model_validate(args))


def build_graph(args: ServingArgs, *, engine: EngineLoader = load_engine) -> Application:
    """Return the graph; `engine` loads a checkpoint, so that a test can run a fake engine on the real Serve."""
    stages = {
        "Tokenization": _deployment("Tokenization", Tokenization).bind(args),
        "Model": _deployment("Model", Model).bind(args, engine),
        "Decoding": _deployment("Decoding", Decoding).bind(args),
        "Reward": _deployment("Reward", Reward).bind(args),
        "Feedback": _deployment("Feedback", Feedback).bind(args),
    }
    # The decorator gets no application: Serve calls Ingress.__serve_build_asgi_app__ on the replica.
    return _deployment("Ingress", serve.ingress()(Ingress)).bind(args, stages)


def _deployment(name: str, stage: type) -> serve.Deployment:
    # Ray's default is a whole core for each, more than a small machine has; serve_config.yaml overrides this.
    return serve.deployment(name=name, ray_actor_options={"num_cpus": 0.1})(stage)
