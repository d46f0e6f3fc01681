"""Record what a user of version 0.1.0 could say to it: options, HTTP fields, settings, metrics. See make_v0_1_0.py."""

# ruff: noqa: I001  the imports are those of another commit
import argparse
import asyncio
import base64
import importlib
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray.serve  # noqa: F401

from harmonixr_model import examples
from harmonixr_model.evaluation.protocol import SHAPES
from harmonixr_model.tokens.tags import COMPOSERS, STYLES
from harmonixr_platform.cli import COMMANDS
from harmonixr_platform.feedback.simulate import Kind
from harmonixr_platform.registry import ALIASES, NAMES, open_registry
from harmonixr_platform.serving.api import make_api
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.decoding import Decoding
from harmonixr_platform.serving.feedback import Feedback
from harmonixr_platform.serving.loading import load_engine
from harmonixr_platform.serving.model import Model
from harmonixr_platform.serving.reward import Reward
from harmonixr_platform.serving.service import Service
from harmonixr_platform.serving.stages import Stages, local_call
from harmonixr_platform.serving.tokenization import Tokenization
from harmonixr_platform.settings import Settings
from harmonixr_ui.routes import ASSETS

MIDI = base64.b64encode(examples.load("minuet-in-g")).decode()
LOCK = {"track": 1, "onset_tick": 5760, "pitch": 72}
HARD = {
    "pitch_min": 36,
    "pitch_max": 96,
    "key": "G major",
    "max_polyphony": 2,
    "min_notes_per_bar": 1,
    "max_notes_per_bar": 6,
    "velocity_min": 30,
    "velocity_max": 110,
}
SOFT = {
    "density": 2.0,
    "polyphony": 1.5,
    "velocity": 70,
    "chords": "C | G7",
    "chord_tones_only": True,
    "key_hint": "G major",
    "enforce": True,
    "style": "classical",
    "composer": "Bach",
    "max_notes_per_bar": 6,
}
SAMPLING = {"n": 2, "seed": 5, "temperature": 0.9, "top_k": 40, "top_p": 0.95}
INFILLS = {
    "hard": {
        "region": {"ticks": [5760, 8640], "tracks": [1], "pitch_low": 30, "pitch_high": 100, "locks": [LOCK]},
        "controls": HARD,
        "sampling": SAMPLING | {"recall": 0.5},
        "model": "champion",
    },
    "soft": {"region": {"bars": "5-6", "tracks": [1]}, "controls": SOFT, "sampling": SAMPLING | {"guidance": 1.5}},
    "beats": {"region": {"beats": "13-14", "tracks": [2]}, "controls": {"max_notes_per_bar": 4}, "sampling": SAMPLING},
    "continue": {"region": {"continue_bars": 1, "tracks": [1]}, "controls": HARD, "sampling": {"seed": 1}},
    "best_of": {
        "region": {"bars": "5", "tracks": [1]},
        "controls": {"max_notes_per_bar": 4},
        "sampling": {"seed": 3, "best_of": 3, "n": 2},
        "model": "challenger",
    },
} | {
    f"only {field}": {"region": {"bars": "9", "tracks": [1]}, "controls": {"only": field}, "sampling": {"seed": 2}}
    for field in ("pitch", "rhythm", "velocity", "duration")
}


def record_interfaces(out: Path, state: Path) -> dict[str, Any]:
    """Return everything that documents name; `state` is the folder of a stopped service, which stays as it is."""
    copied = out / "state-for-http"
    shutil.copytree(state, copied)
    settings = Settings(state_dir=copied, rater_secret="the secret of the fixtures")
    stages = make_stages(settings)
    args = ServingArgs(alias_refresh_s=0)
    service = Service(Stages(local_call(stages)), args)
    app = make_api(service, args)
    document = app.openapi()
    found = {
        "options": {name: options_of(name) for name in COMMANDS} | modules_options(),
        "requests": {name: sorted(paths) for name, paths in field_paths(document, "requestBody")},
        "responses": {name: sorted(paths) for name, paths in field_paths(document, "responses")},
        "routes": sorted(f"{method} {path}" for path, kinds in document["paths"].items() for method in kinds),
        "environment": environment(),
        "words": words(),
        "browser": browser(),
        "infills": asyncio.run(infills(app, service)),
        "pages": asyncio.run(pages(app)),
    }
    check_examples(found)
    stages["Feedback"].stop()
    stages["Model"].stop()
    shutil.rmtree(copied)
    return found


# ---- command line


def options_of(command: str) -> dict[str, list[str]]:
    """Return the options of a command and of each of its subcommands."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"harmonixr_platform.cli.{command}").add_arguments(parser)
    return dict(options_below(parser, command))


def options_below(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (command, its options with their choices) for a parser and those below it."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from options_below(below, f"{name} {word}")
        elif action.option_strings or action.choices:
            choices = "" if action.choices is None else f" {{{','.join(map(str, action.choices))}}}"
            found += [f"{option}{choices}" for option in action.option_strings or [action.dest]]
    yield name, sorted(found)


def modules_options() -> dict[str, dict[str, list[str]]]:
    """Return the options of `python -m …`."""
    found: dict[str, dict[str, list[str]]] = {}
    for module, function in (("harmonixr_model.training", "parse"), ("harmonixr_ui", "main")):
        seen: list[argparse.ArgumentParser] = []
        parse_args = argparse.ArgumentParser.parse_args

        def stop(self: argparse.ArgumentParser, *_: Any, seen: list[Any] = seen) -> None:
            seen.append(self)
            raise SystemExit

        argparse.ArgumentParser.parse_args = stop  # type: ignore[assignment]
        try:
            getattr(importlib.import_module(f"{module}.__main__"), function)([])
        except SystemExit:
            pass
        finally:
            argparse.ArgumentParser.parse_args = parse_args  # type: ignore[method-assign]
        found[module] = dict(options_below(seen[0], module))
    return found


def environment() -> dict[str, str]:
    """Return a value for every variable, different from its default."""
    values = {
        "state_dir": "/tmp/state",
        "redis_url": "redis://example:1/0",
        "redis_port": "1234",
        "redis_timeout_s": "3.5",
        "object_store_url": "s3://bucket/prefix",
        "s3_endpoint_url": "http://127.0.0.1:9",
        "s3_region": "eu-west-1",
        "s3_access_key": "key",
        "s3_secret_key": "secret",
        "rater_secret": "rater",
        "comparison_ttl_s": "61",
        "rater_per_minute": "7",
        "api_keys": "a,b",
        "api_key": "c",
        "host": "127.0.0.2",
        "api_port": "8001",
        "ui_port": "7861",
        "log_level": "ERROR",
    }
    assert values.keys() == Settings.model_fields.keys()
    return {f"HARMONIXR_{name.upper()}": value for name, value in values.items()}


def words() -> dict[str, list[str]]:
    """Return the words that options and job files take where argparse and pydantic do not list them."""
    return {
        "evaluate --shapes": list(SHAPES),
        "simulate --mix": list(get_args(Kind)),
        "styles": list(STYLES),
        "composers": list(COMPOSERS),
        "aliases": list(ALIASES),
        "models": list(NAMES),
    }


def browser() -> list[str]:
    """Return the names under which a listener's browser keeps their key, answers that wait, consent and so on."""
    scripts = [path.read_text() for path in sorted(ASSETS.glob("*.js"))]
    return sorted({name for script in scripts for name in re.findall(r"'(harmonixr\.[a-z.]+)'", script)})


# ---- HTTP


def field_paths(document: dict[str, Any], part: str) -> Iterator[tuple[str, set[str]]]:
    """Yield (route, the dotted names of all JSON fields of its request or its good response)."""
    for path, kinds in document["paths"].items():
        for method, route in kinds.items():
            body = route.get(part, {})
            if part == "responses":
                body = next((held for status, held in body.items() if status.startswith("2")), {})
            schema = body.get("content", {}).get("application/json", {}).get("schema")
            if schema:
                yield f"{method} {path}", set(names_in(schema, document["components"]["schemas"]))


def names_in(schema: dict[str, Any], schemas: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield the dotted names below a JSON schema."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for name, value in schema.get("properties", {}).items():
        inside = f"{place}.{name}".lstrip(".")
        yield inside
        yield from names_in(value, schemas, inside)
    for several in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for one in schema.get(several, ()):
            yield from names_in(one, schemas, place)
    if isinstance(schema.get("items"), dict):
        yield from names_in(schema["items"], schemas, place)


def check_examples(found: dict[str, Any]) -> None:
    """See that the recorded requests use every field of an infill request."""
    used = set().union(*(keys_of(exchange["json"]) for exchange in found["infills"].values()))
    assert used == set(found["requests"]["post /v1/infill"]), used ^ set(found["requests"]["post /v1/infill"])


def keys_of(value: Any, place: str = "") -> set[str]:
    """Return the dotted names of a JSON value."""
    if isinstance(value, list):
        return set().union(*(keys_of(one, place) for one in value))
    if not isinstance(value, dict):
        return set()
    names = {name: f"{place}.{name}".lstrip(".") for name in value}
    return set(names.values()).union(*(keys_of(value[name], inside) for name, inside in names.items()))


def make_stages(settings: Settings) -> dict[str, Any]:
    """Return the stages of a service in this process."""
    args = ServingArgs(alias_refresh_s=0, compiled=False)
    registry = open_registry(settings)
    return {
        "Tokenization": Tokenization(args),
        "Model": Model(args, load_engine, registry=registry),
        "Decoding": Decoding(args),
        "Reward": Reward(args, registry=registry),
        "Feedback": Feedback(args, settings=settings),
    }


async def infills(app: Any, service: Service) -> dict[str, Any]:
    """Send every infill request; return it with what came back."""
    found = {}
    async with client(app) as http:
        for name, content in INFILLS.items():
            response = await http.post("/v1/infill", json=content | {"midi_base64": MIDI})
            assert response.status_code == 200, (name, response.text)
            body = response.json()
            found[name] = {
                "json": content | {"midi_base64": MIDI if name == "hard" else ""},
                "fields": sorted(keys_of(body)),
                "headers": sorted(key for key in response.headers if key.startswith("x-harmonixr")),
                "model_version": body["model_version"],
                "reward_version": body["reward_version"],
                "precision": body["precision"],
                "seeds": [candidate["seed"] for candidate in body["candidates"]],
                "tokens": [candidate["tokens"] for candidate in body["candidates"]],
            }
        await asyncio.gather(*service._background)
        content = INFILLS["beats"] | {"midi_base64": MIDI}
        events = await http.post("/v1/infill", json=content, headers={"Accept": "text/event-stream"})
        midi = await http.post("/v1/infill", json=content, headers={"Accept": "audio/midi"})
        wrong = await http.post("/v1/infill", json={"region": {"bars": "1"}, "midi_base64": MIDI, "fill": 1})
        missing = await http.post("/v1/infill", json=content | {"region": {"bars": "900"}})
    found["beats"]["events"] = event_fields(events.text)
    found["beats"]["midi_headers"] = sorted(key for key in midi.headers if key.startswith("x-harmonixr"))
    problems = [wrong, missing]
    found["beats"]["problems"] = [[problem.status_code, sorted(keys_of(problem.json()))] for problem in problems]
    return found


def event_fields(text: str) -> dict[str, list[str]]:
    """Return the fields of each kind of event of a stream."""
    found: dict[str, set[str]] = {}
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in lines:
            found.setdefault(lines["event"], set()).update(keys_of(json.loads(lines["data"])))
    return {name: sorted(fields) for name, fields in found.items()}


async def pages(app: Any) -> dict[str, Any]:
    """Return what the routes without a schema show."""
    async with client(app) as http:
        leaderboard = (await http.get("/v1/leaderboard")).json()
        study = (await http.get("/v1/leaderboard", params={"study": "temperatures"})).json()
        models = (await http.get("/v1/models")).json()
        metrics = (await http.get("/metrics")).text
        ready = (await http.get("/readyz")).json()
    samples = {line.split(" ")[0] for line in metrics.splitlines() if not line.startswith("#")}
    names = {sample.split("{")[0] for sample in samples}
    labels = {
        f"{name} {label.partition('=')[0]}"
        for name, _, inside in (sample.partition("{") for sample in samples)
        for label in inside.split(",")
        if "=" in label
    }
    return {
        "leaderboard": sorted(keys_of(leaderboard) | keys_of(study)),
        "models": models,
        "metrics": sorted(name for name in names if name.startswith("harmonixr")),
        "labels": sorted(labels),
        "readyz": sorted(keys_of(ready)),
    }


def client(app: Any) -> httpx.AsyncClient:
    """Return an HTTP client of an application in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service")
