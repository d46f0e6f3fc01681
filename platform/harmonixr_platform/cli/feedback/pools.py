"""`harmonixr feedback pool`, and the songs and models of pools and studies."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from harmonixr_model import examples
from harmonixr_model.fill.infiller import Infiller
from harmonixr_model.weights import SHIPPED
from harmonixr_platform.cli.progress import progress_bar
from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.studies.pool_pairs import FillModel, Piece, SkippedPair, build_pool
from harmonixr_platform.registry import open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store


def pool(args: argparse.Namespace, settings: Settings) -> int:
    """Make pairs of fills of gaps in the songs; return 1 when there is no pair."""
    pieces = pieces_of(args.songs)
    models = list(models_of(settings, [name for name in args.models.split(",") if name.strip()]).values())
    made, skipped = 0, Counter[str]()
    with progress_bar("making pairs", args.pairs, "pair") as bar:
        for pair in build_pool(
            open_object_store(settings),
            pieces,
            pool=args.name,
            models=models,
            pairs=args.pairs,
            seed=args.seed,
        ):
            if isinstance(pair, SkippedPair):
                skipped[pair.reason] += 1
            else:
                made += 1
            bar.update()
    print(f"pool {args.name}: {made} pairs of {len(pieces)} songs, by {', '.join(model.version for model in models)}")
    for reason, count in skipped.most_common():
        print(f"  {count} pairs not made: {reason}")
    return 0 if made else 1


def pieces_of(songs: Iterable[Path]) -> list[Piece]:
    """Return the songs in files and folders; without a path, the bundled examples."""
    files: list[Path] = []
    for song in songs:
        found = sorted(p for p in song.rglob("*") if p.suffix.lower() in {".mid", ".midi"}) if song.is_dir() else [song]
        if not found:
            raise FeedbackError(f"{song} holds no .mid or .midi file")
        files += found
    if files:
        return [Piece.of(file.read_bytes()) for file in files]

    return [Piece(f"example-{name}", examples.load(name)) for name in examples.names()]


def models_of(settings: Settings, names: list[str]) -> dict[str, FillModel]:
    """Return the models of aliases or versions by their version; without names champion and challenger."""
    registry = open_registry(settings)
    if not names:
        names = ["champion"] + (["challenger"] if registry.alias("infill", "challenger") else [])
    found = (fill_model(settings, name.strip()) for name in names)
    return {one.version: one for one in found}


def fill_model(settings: Settings, name: str) -> FillModel:
    """Return the model of an alias or a version; without a champion, the shipped model becomes champion."""
    registry = open_registry(settings)
    if SHIPPED.is_file():
        registry.ensure_shipped(SHIPPED)
    version = registry.resolve("infill", name)
    return FillModel(Infiller.load(registry.fetch(version)), version.version, version.sha256)
