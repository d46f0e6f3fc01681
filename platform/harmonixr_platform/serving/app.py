"""Bind the graph: Ingress → Tokenization → Model → Decoding (→ Reward), and Feedback beside them.

`build_app` is what serve_config.yaml names. It takes a dict, since Serve passes one whatever the annotation says under
postponed annotations. Real collaborators are chosen here and nowhere else.
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
    """Return the graph that `args`, the `args` of serve_config.yaml, describe."""
    return build_graph(ServingArgs.model_validate(args))


def build_graph(args: ServingArgs, *, engine: EngineLoader = load_engine) -> Application:
    """Return the graph; `engine` makes an engine of a checkpoint, so that a fake may run on the real Serve."""
    stages = {
        "Tokenization": _deployment("Tokenization", Tokenization).bind(args),
        "Model": _deployment("Model", Model).bind(args, engine),
        "Decoding": _deployment("Decoding", Decoding).bind(args),
        "Reward": _deployment("Reward", Reward).bind(args),
        "Feedback": _deployment("Feedback", Feedback).bind(args),
    }
    # Without an application of its own the decorator asks Ingress for one once the replica is up.
    return _deployment("Ingress", serve.ingress()(Ingress)).bind(args, stages)


def _deployment(name: str, stage: type) -> serve.Deployment:
    # Ray would give each a whole core, more than a small machine has; serve_config.yaml says what each really gets.
    return serve.deployment(name=name, ray_actor_options={"num_cpus": 0.1})(stage)
