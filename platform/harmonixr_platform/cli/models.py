"""`harmonixr models`: list, show, register, promote and roll back model versions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmonixr_platform.registry import Registry

EPILOG = """
examples:
  harmonixr models list
  harmonixr models show infill champion
  harmonixr models register infill runs/nano/best.safetensors --note "second training"
  harmonixr models promote infill 3f2a9c1b7d0e --reason "beats the champion 61:39"
  harmonixr models promote infill 3f2a9c1b7d0e --gate platform/configs/gate.yaml
  harmonixr models promotions infill
  harmonixr models rollback infill
"""
NAMES = ("infill", "reward")
ALIASES = ("champion", "challenger")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="all versions, and what the aliases point to (the default)")
    listing.add_argument("name", nargs="?", choices=NAMES, help="only this model")
    show = actions.add_parser("show", help="one version with its lineage, as JSON")
    _name(show)
    show.add_argument("version", nargs="?", default="champion", help="an alias, a version or its first digits")
    register = actions.add_parser("register", help="add a checkpoint as a version")
    _name(register)
    register.add_argument("file", type=Path, help="a safetensors file")
    register.add_argument("--note", default="", help="a description")
    promote = actions.add_parser("promote", help="point an alias at a version")
    _name(promote)
    promote.add_argument("version", help="a version or its first digits")
    promote.add_argument("--reason", default="", help="the reason; stored in the history")
    promote.add_argument(
        "--gate", type=Path, metavar="YAML", help="promote only if this promotion gate passes, and record the decision"
    )
    promotions = actions.add_parser("promotions", help="all decisions of the promotion gate, with their reasons")
    _name(promotions)
    rollback = actions.add_parser("rollback", help="point an alias back at its previous version")
    _name(rollback)
    for moving in (promote, rollback):
        moving.add_argument("--alias", choices=ALIASES, default="champion", help="which alias (default: champion)")


def run(args: argparse.Namespace) -> int:
    """Run the action; return 0."""
    from harmonixr_platform.registry import open_registry
    from harmonixr_platform.settings import Settings

    registry = open_registry(Settings())
    if args.action == "show":
        print(registry.resolve(args.name, args.version).model_dump_json(indent=2))
    elif args.action == "register":
        _register(registry, args)
    elif args.action == "promotions":
        _promotions(registry, args.name)
    elif args.action == "promote" and args.gate:
        return _promote_by_gate(args)
    elif args.action == "promote":
        moved = registry.promote(args.name, args.version, alias=args.alias, reason=args.reason)
        print(f"{args.name} {args.alias} is {moved.version}")
    elif args.action == "rollback":
        moved = registry.rollback(args.name, args.alias)
        print(f"{args.name} {args.alias} is {moved.version} again")
    else:
        _list(registry, NAMES if getattr(args, "name", None) is None else (args.name,))
    return 0


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=NAMES, help="which model")


def _register(registry: Registry, args: argparse.Namespace) -> None:
    from harmonixr_platform.registry import Lineage

    _check_checkpoint(args.name, args.file)
    version = registry.register(args.name, args.file, Lineage(note=args.note))
    print(f"registered {args.name} {version.version} ({version.size_bytes / 1e6:.1f} MB)")


def _promote_by_gate(args: argparse.Namespace) -> int:
    """Let the promotion gate decide; return 0 when it promotes, 1 when it refuses."""
    from harmonixr_platform.settings import Settings
    from harmonixr_platform.training import promotion_gate as gate

    decision = gate.decide(
        args.name, args.version, settings=Settings(), gate=gate.read_gate(args.gate), alias=args.alias
    )
    for check in decision.checks:
        print(f"{'passed ' if check.passed else 'REFUSED'}  {check.name}: {check.sentence}")
    verdict = f"is {args.alias}" if decision.promoted else f"is not promoted to {args.alias}"
    basis = " on simulated judgments" if decision.simulated else ""
    print(f"{args.name} {decision.version} {verdict}{basis}; recorded as promotion {decision.promotion_id}")
    return 0 if decision.promoted else 1


def _promotions(registry: Registry, name: str) -> None:
    for decision in registry.promotions(name):
        outcome = "promoted" if decision.promoted else "refused"
        why = "; ".join(decision.reasons)
        print(
            f"{decision.promotion_id}  {decision.decided:%F %H:%M}  {decision.version} against {decision.champion}: "
            f"{outcome}{' (simulated judgments)' if decision.simulated else ''}{f': {why}' if why else ''}"
        )


def _check_checkpoint(name: str, file: Path) -> None:
    """Raise an error for a file that the service cannot load."""
    if name == "infill":
        from harmonixr_model.infill.checkpoint import load_checkpoint

        load_checkpoint(file)
        return
    from harmonixr_model.fill.ranker import Ranker

    Ranker.load(file)


def _list(registry: Registry, names: tuple[str, ...]) -> None:
    for name in names:
        versions = registry.versions(name)
        print(f"{name}: {len(versions)} version{'' if len(versions) == 1 else 's'}")
        targets = {alias: target.version for alias in ALIASES if (target := registry.alias(name, alias))}
        for version in versions:
            metrics = json.dumps(version.lineage.metrics) if version.lineage.metrics else version.lineage.note
            aliases = ", ".join(alias for alias, target in targets.items() if target == version.version)
            print(f"  {version.version}  {version.created:%F %H:%M}  {aliases:<22}{metrics}".rstrip())
