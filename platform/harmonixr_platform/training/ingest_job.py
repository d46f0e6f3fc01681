"""Ingest folders of MIDI into a corpus on Ray Data: shards are filled in parallel, then finished in one place.

What a shard or a corpus is, harmonixr_model.data.shards knows; here it gets workers. `out` must be a folder that every
node sees.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from harmonixr_model.data.build import Summary, finish, read_given_manifest
from harmonixr_model.data.loaders import load_listing
from harmonixr_model.data.shards import ShardPlan, ShardResult, fill_shard, find_files, plan_shards
from harmonixr_model.errors import CorpusError
from harmonixr_platform.training.ray_session import ray_session


def run(
    folders: Sequence[Path],
    out: Path,
    *,
    manifest: Path | None = None,
    dataset: str = "",
    uses_official_split: bool = False,
    workers: int | None = None,
    uses_ray: bool = True,
    begin: Callable[[int], None] = lambda files: None,
    listen: Callable[[ShardResult], None] = lambda result: None,
) -> Summary:
    """Ingest, or go on with an interrupted ingest of the same files; return what was found.

    Args:
        folders: searched with all folders under them; single files are taken too.
        out: the corpus; shards that are whole there are kept.
        manifest: a table that names the files to take, their piece_id and split, see `read_given_manifest`.
        dataset: a collection that loaders know, its folder as it was unpacked; its own names decide what a piece is.
        uses_official_split: the collection's split holds, instead of one by piece.
        workers: how many shards are filled at once; all cores when left out.
        uses_ray: otherwise shards are filled one after another in this process.
        begin: told how many files there are.
        listen: told of each shard when it is whole.

    Raises:
        CorpusError: no MIDI file was found, `out` is no folder or holds an ingest of other files, the manifest is none,
            the folder is not that dataset.
        FileNotFoundError: a folder or the manifest does not exist.

    """
    if workers is not None and workers < 1:
        raise CorpusError(f"{workers} workers fill nothing; give at least 1")
    if out.exists() and not out.is_dir():
        raise CorpusError(f"{out} is a file; give a folder for the corpus")
    given = None if manifest is None else read_given_manifest(manifest)
    listing = None
    if dataset:
        if len(folders) != 1 or manifest is not None:
            raise CorpusError(f"--dataset {dataset} takes one folder and no manifest: it knows what its files are")
        listing = load_listing(dataset, folders[0], uses_official_split=uses_official_split)
    elif uses_official_split:
        raise CorpusError("an official split is a dataset's; say which one with --dataset")
    files = find_files(folders) if listing is None else listing.files()
    if given is not None:
        files = [file for file in files if file[0] in given]
        if not files:
            raise CorpusError(
                f"{manifest} names none of the files found; its paths must be relative to the folder that is ingested"
            )
    out = out.resolve()
    plans = plan_shards(files, out, is_performance=listing is not None and listing.is_performance)
    begin(len(files))
    results = _on_ray(plans, out, workers) if uses_ray else (fill_shard(plan, out) for plan in plans)
    for result in results:
        listen(result)
    return finish(out, given=given, listing=listing)


def _on_ray(
    plans: Sequence[ShardPlan],
    out: Path,
    workers: int | None,
    *,
    fill: Callable[[ShardPlan, Path], ShardResult] = fill_shard,
) -> Iterator[ShardResult]:
    """Fill the shards as tasks of one Ray Data pipeline and yield each result as it comes."""
    with ray_session(cpus=workers or os.cpu_count()):
        import ray.data

        # The command line draws its own bar, and would be drawn over.
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # Rows hold JSON: as Arrow structs, counts by reason would gain the reasons of other shards.
        rows = [{"plan": json.dumps(asdict(plan))} for plan in plans]
        # Ray Data begins a task whose process died again, without end: shards.Journal makes that come to one.
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            partial(_fill, fill, out=str(out)), compute=ray.data.TaskPoolStrategy(size=workers)
        )
        for row in dataset.iter_rows():
            yield ShardResult(**json.loads(row["result"]))


def _fill(fill: Callable[[ShardPlan, Path], ShardResult], row: dict[str, Any], *, out: str) -> dict[str, Any]:
    plan = json.loads(row["plan"])
    files = tuple((relative, path) for relative, path in plan["files"])
    shard = ShardPlan(plan["name"], files, plan["is_performance"])
    return {"result": json.dumps(asdict(fill(shard, Path(out))))}
