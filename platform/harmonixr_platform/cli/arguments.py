"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from harmonixr_model.errors import HarmonixrError

SHIPPED = "shipped"


class MissingWeights(HarmonixrError):
    """The package has no weights."""


def add_job_file(parser: argparse.ArgumentParser, *, example: str) -> None:
    """Declare a job file and the overrides of its settings."""
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help=f"such as platform/configs/{example}")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a setting, such as optimisation.steps=500; may be repeated",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the model of a command; see `model_file`."""
    parser.add_argument(
        "--model",
        default=SHIPPED,
        metavar="MODEL",
        help="a checkpoint, `shipped`, `champion`, `challenger` or a version of the registry (default: shipped)",
    )


def model_file(model: str) -> tuple[Path, str]:
    """Return the checkpoint of a `--model` argument, and the model's name in reports."""
    from harmonixr_model.fill.infiller import shipped_weights

    if model == SHIPPED:
        if not shipped_weights().is_file():
            raise MissingWeights("this package has no weights; give --model a checkpoint, or install it again")
        return shipped_weights(), SHIPPED
    if Path(model).is_file():
        return Path(model), Path(model).name
    if model.endswith(".safetensors") or "/" in model:
        raise FileNotFoundError(2, "no such checkpoint", model)
    from harmonixr_platform.registry import open_registry
    from harmonixr_platform.settings import Settings

    registry = open_registry(Settings())
    version = registry.resolve("infill", model)
    return registry.fetch(version), f"{model} ({version.version})"


def positive(text: str) -> int:
    """Read a positive number; the type of an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
