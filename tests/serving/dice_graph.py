"""Run by test_on_ray in a process of its own: the real graph on a real cluster, with an engine that throws dice.

As `__main__` its classes travel to the replicas by value, which cannot import a test module.
"""

import os
import sys
import time
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from harmonixr_platform.serving.app import build_graph
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.stages.loading import LoadedEngine


class DiceEngine:
    """Draws tokens that the grammar allows, without a model. The highest temperature makes it slow."""

    def submit(self, prompt, seeds, sampling, *, owner="", deadline=None):
        import threading

        from harmonixr_model.engine.request import RequestHandle

        handle = RequestHandle(len(seeds))
        threading.Thread(target=self._answer, args=(handle, prompt, seeds, sampling), daemon=True).start()
        return handle

    def close(self, *, drain=True):
        pass

    def _answer(self, handle, prompt, seeds, sampling):
        from harmonixr_model.engine.engine import GeneratedFill
        from harmonixr_model.engine.request import CandidateFinished, CellFinished, Finished

        for candidate, seed in enumerate(seeds):
            tokens, cells = self._throw(prompt, seed)
            for cell, cell_tokens in enumerate(cells):
                if sampling.temperature == 5:
                    time.sleep(4 / len(cells))
                if handle.is_cancelled:
                    (Path(os.environ["HARMONIXR_STATE_DIR"]) / "cancelled").touch()
                    return
                handle.emit(CellFinished(candidate, cell, cell_tokens))
            handle.emit(CandidateFinished(candidate, GeneratedFill(tokens, -1.0)))
        handle.emit(Finished())

    def _throw(self, prompt, seed):
        import random

        import numpy as np

        from harmonixr_model.grammar.fill_grammar import FillGrammar
        from harmonixr_model.notes.vocabulary import VOCAB

        dice, grammar, tokens, cells = random.Random(seed), FillGrammar(prompt.tables), [], [[]]
        while not grammar.finished:
            tokens.append(int(dice.choice(np.flatnonzero(grammar.allowed()))))
            grammar.advance(tokens[-1])
            cells[-1].append(tokens[-1])
            if tokens[-1] == VOCAB.id("END"):
                cells.append([])
        return tuple(tokens), [tuple(cell_tokens) for cell_tokens in cells[:-1]]


def load_dice(path, args):
    return LoadedEngine(DiceEngine(), 2048)


if __name__ == "__main__":
    address, port = sys.argv[1:]
    ray.init(address=address, namespace="serve", log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(port)))
    # Every stage in a process of its own: what an ingress may do itself is done by the others.
    serve.run(build_graph(ServingArgs(deadline_s=300, in_process_midi_bytes=0), engine=load_dice), name="harmonixr")
