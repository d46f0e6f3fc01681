"""Run by test_on_ray in a process of its own: the real graph on a real cluster, with an engine that throws dice.

As `__main__` its classes travel to the replicas by value, which cannot import a test module.
"""

import sys
import time

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from harmonixr_platform.serving.app import build_graph
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.loading import LoadedEngine


class DiceEngine:
    """Draws tokens that the grammar allows, without a model. The highest temperature makes it slow."""

    def generate_each(self, jobs, *, sampling):
        import random

        import numpy as np

        from harmonixr_model.engine.engine import Generated
        from harmonixr_model.tokens.grammar import FillGrammar

        answers = []
        for prompt, seed in jobs:
            dice, grammar, tokens = random.Random(seed), FillGrammar(prompt.rules), []
            while not grammar.finished:
                tokens.append(int(dice.choice(np.flatnonzero(grammar.allowed()))))
                grammar.advance(tokens[-1])
            answers.append(Generated(tuple(tokens), -1.0))
        if sampling.temperature == 5:
            time.sleep(4)
        return answers


def load_dice(path, threads):
    return LoadedEngine(DiceEngine(), 2048)


if __name__ == "__main__":
    address, port = sys.argv[1:]
    ray.init(address=address, namespace="serve", log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(port)))
    serve.run(build_graph(ServingArgs(deadline_s=300), engine=load_dice), name="harmonixr")
