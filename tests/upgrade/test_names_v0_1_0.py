"""Names that the documents of version 0.1.0 gave to users go on working."""

import argparse
import importlib
import json
from pathlib import Path
from typing import get_args

import pytest

from harmonixr_model import examples
from harmonixr_model.evaluation.protocol import SHAPES
from harmonixr_model.notes.vocabulary import COMPOSERS, STYLES
from harmonixr_platform.feedback.studies.simulated_raters import Kind
from harmonixr_platform.registry import ALIASES, NAMES
from harmonixr_platform.settings import Settings
from harmonixr_ui.routes import ASSETS, make_router

INTERFACES = json.loads((Path(__file__).parent / "v0_1_0" / "interfaces.json").read_text())
# MICRO tokens were removed; issue 12 says why.
REMOVED = {"harmonixr_model.training": {"--micro"}}


def test_the_python_example_of_the_readme_works():
    """The imports and calls that README.md showed, with a smaller gap."""
    from harmonixr_model.infiller import Fill, Infiller, shipped_weights
    from harmonixr_model.music.region import Region
    from harmonixr_model.music.song import Song

    song = Song.parse(examples.load("minuet-in-g"))
    fills = Infiller.load(shipped_weights()).fill(song, Region.bars(song.score, 8, 8, tracks=[1]), n=2, seed=7)
    assert all(isinstance(fill, Fill) for fill in fills)
    assert fills[0].midi.startswith(b"MThd")
    assert [fill.seed for fill in fills] == [7, 8]


class Parsed(Exception):
    """Holds the parser of a command at the moment when it would read its arguments."""


@pytest.mark.parametrize("command", INTERFACES["options"])
def test_every_option_of_a_command_is_taken(command, monkeypatch):
    found = dict(options_below(parser_of(command, monkeypatch), command))
    for name, options in INTERFACES["options"][command].items():
        assert found.get(name, set()) >= set(options) - REMOVED.get(command, set()), name


def parser_of(command, monkeypatch):
    if not command.startswith("harmonixr_"):
        parser = argparse.ArgumentParser()
        importlib.import_module(f"harmonixr_platform.cli.{command}").add_arguments(parser)
        return parser

    def stop(parser, *_):
        raise Parsed(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    module = importlib.import_module(f"{command}.__main__")
    with pytest.raises(Parsed) as caught:
        (module.main if hasattr(module, "main") else module.parse)([])
    return caught.value.args[0]


def options_below(parser, name):
    """Yield (command, its options with their choices), hidden ones too, for a parser and those below it."""
    found = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from options_below(below, f"{name} {word}")
        elif action.option_strings or action.choices:
            choices = "" if action.choices is None else f" {{{','.join(map(str, action.choices))}}}"
            found |= {f"{option}{choices}" for option in action.option_strings or [action.dest]}
    yield name, found


def test_words_that_options_and_files_take_are_known():
    """Styles and composers are tokens by their places, which the vocabulary's hash does not tell."""
    words = INTERFACES["words"]
    assert STYLES[: len(words["styles"])] == tuple(words["styles"])
    assert COMPOSERS[: len(words["composers"])] == tuple(words["composers"])
    assert set(SHAPES) >= set(words["evaluate --shapes"])
    assert set(get_args(Kind)) >= set(words["simulate --mix"])
    assert set(ALIASES) >= set(words["aliases"])
    assert set(NAMES) >= set(words["models"])


def test_every_environment_variable_is_read(monkeypatch):
    default = {name: str(value) for name, value in Settings()}
    for name, value in INTERFACES["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    unread = [name for name, value in settings if str(value) == default[name] and "*" not in str(value)]
    assert unread == []
    assert settings.api_key_list() == ("a", "b")
    assert settings.rater_key() == b"rater"


@pytest.mark.parametrize("name", INTERFACES["environment"])
def test_no_environment_variable_is_unknown(name, monkeypatch):
    monkeypatch.setenv(name, INTERFACES["environment"][name])
    Settings()


def test_a_listeners_browser_keeps_its_key_and_its_waiting_answers():
    """The rater's key is a secret of the browser's own: under another name a listener would come back as a stranger."""
    scripts = "".join(path.read_text() for path in sorted(ASSETS.glob("*.js")))
    assert [name for name in INTERFACES["browser"] if f"'{name}'" not in scripts] == []
    # An answer that waits is kept with the route that it is sent to.
    routes = {route.path for route in make_router(None).routes}
    assert routes >= {"/hx/judgments", "/hx/retractions"}
