"""Find misspelt keys and missing settings in serve_config.yaml, which Ray accepts silently."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from harmonixr_platform.serving.arguments import ModelConfig, RewardConfig, ServingArgs

IMPORT_PATH = "harmonixr_platform.serving.app:build_app"
DEPLOYMENTS = ("Ingress", "Tokenization", "Model", "Decoding", "Reward", "Feedback")
USER_CONFIGS: dict[str, type[BaseModel]] = {"Model": ModelConfig, "Reward": RewardConfig}
# Ray's defaults surprise: 5 concurrent requests, an unlimited queue, a stall at every update.
EXPLICIT = ("max_ongoing_requests", "max_queued_requests", "max_surge_percent")


def lint_serve_config(path: Path) -> list[str]:
    """Return the faults of a serve config, one sentence each."""
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return [f"{path}: no such file; run from the checkout, or name a file"]
    except yaml.YAMLError as error:
        return [f"{path}: not YAML: {' '.join(str(error).split())}"]
    if not isinstance(config, dict):
        return [f"{path}: a serve config is a mapping with `applications`"]
    return [f"{path.name}: {fault}" for fault in _faults(config)]


def _faults(config: Mapping[str, Any]) -> Iterator[str]:
    # Importing Ray takes a second, and most commands do not need it.
    from ray.serve.schema import HTTPOptionsSchema, LoggingConfig, ServeDeploySchema

    yield from _unknown(config, ServeDeploySchema, "")
    yield from _unknown(config.get("http_options"), HTTPOptionsSchema, "http_options")
    yield from _unknown(config.get("logging_config"), LoggingConfig, "logging_config")
    if config.get("http_options", {}).get("host") is None:
        yield "http_options.host is not set, so Ray would listen on every interface; write 127.0.0.1"
    for number, application in enumerate(config.get("applications") or ()):
        yield from _application_faults(application, f"applications[{number}]")
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            yield f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


def _application_faults(application: Any, where: str) -> Iterator[str]:
    from ray.serve.schema import DeploymentSchema, LoggingConfig, ServeApplicationSchema

    yield from _unknown(application, ServeApplicationSchema, where)
    if not isinstance(application, dict):
        return
    yield from _unknown(application.get("logging_config"), LoggingConfig, f"{where}.logging_config")
    is_ours = application.get("import_path") == IMPORT_PATH
    if is_ours:
        yield from _invalid(application.get("args") or {}, ServingArgs, f"{where}.args")
    for deployment in application.get("deployments") or ():
        if isinstance(deployment, dict):
            yield from _deployment_faults(deployment, where, is_ours=is_ours)
        else:
            yield from _unknown(deployment, DeploymentSchema, f"{where}.?")


def _deployment_faults(deployment: Mapping[str, Any], where: str, *, is_ours: bool) -> Iterator[str]:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import DeploymentSchema, LoggingConfig, RayActorOptionsSchema

    name = deployment.get("name", "?")
    where = f"{where}.{name}"
    yield from _unknown(deployment, DeploymentSchema, where)
    parts: dict[str, type[BaseModel]] = {
        "ray_actor_options": RayActorOptionsSchema,
        "autoscaling_config": AutoscalingConfig,
        "logging_config": LoggingConfig,
    }
    for key, schema in parts.items():
        yield from _unknown(deployment.get(key), schema, f"{where}.{key}")
    if not is_ours:
        return
    if name not in DEPLOYMENTS:
        yield f"{where}: there is no deployment {name!r}{_nearest(name, DEPLOYMENTS)}"
    for key in EXPLICIT:
        if key not in deployment:
            yield f"{where}: {key} is left to Ray's default; set it"
    if name in USER_CONFIGS:
        yield from _invalid(deployment.get("user_config") or {}, USER_CONFIGS[name], f"{where}.user_config")


def _unknown(given: Any, schema: type[BaseModel], where: str) -> Iterator[str]:
    if given is None:
        return
    if not isinstance(given, dict):
        yield f"{where}: this is a {type(given).__name__}, not a mapping"
        return
    known = [*schema.model_fields, *(f.alias for f in schema.model_fields.values() if f.alias)]
    for key in given:
        if key not in known:
            yield f"{f'{where}.' if where else ''}{key}: there is no such key{_nearest(str(key), known)}"


def _invalid(given: Any, schema: type[BaseModel], where: str) -> Iterator[str]:
    try:
        schema.model_validate(given)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = ".".join(map(str, fault["loc"]))
            hint = _nearest(name, list(schema.model_fields)) if fault["type"] == "extra_forbidden" else ""
            yield f"{where}.{name}: {'there is no such key' if hint else fault['msg']}{hint}"


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {found[0]}?" if found else f"; known are {', '.join(known)}"
