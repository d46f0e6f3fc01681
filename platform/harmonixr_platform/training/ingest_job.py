"""Ingest folders of MIDI into a corpus on Ray Data: fill shards in parallel, then finish the corpus in one process.

harmonixr_model.data.shards defines shards and corpora. `out` must be a folder that every node can read and write.
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
    on_start: Callable[[int], None] = lambda files: None,
    on_shard: Callable[[ShardResult], None] = lambda result: None,
) -> Summary:
    """Ingest, or continue an interrupted ingest of the same files; return the counts.

    Args:
        folders: folders to search at any depth, or single files.
        out: the corpus; its complete shards are not filled again.
        manifest: a table of the files to use, with piece_id and split; see `read_given_manifest`.
        dataset: a collection with a loader; `folders` is then one unpacked download, and its metadata defines pieces.
        uses_official_split: use the collection's split instead of a split by piece.
        workers: the number of shards to fill in parallel; by default all cores.
        uses_ray: without Ray, shards are filled one after another in this process.
        on_start: called with the number of files.
        on_shard: called with each complete shard.

    Raises:
        CorpusError: there is no MIDI file, `out` is no folder or holds an ingest of other files, or the manifest or the
            dataset is invalid.
        FileNotFoundError: a folder or the manifest does not exist.

    """
    if workers is not None and workers < 1:
        raise CorpusError(f"{workers} workers cannot fill a shard; give at least 1")
    if out.exists() and not out.is_dir():
        raise CorpusError(f"{out} is a file; give a folder for the corpus")
    given = None if manifest is None else read_given_manifest(manifest)
    listing = None
    if dataset:
        if len(folders) != 1 or manifest is not None:
            raise CorpusError(f"--dataset {dataset} takes one folder and no manifest: the dataset defines its files")
        listing = load_listing(dataset, folders[0], uses_official_split=uses_official_split)
    elif uses_official_split:
        raise CorpusError("an official split belongs to a dataset; name it with --dataset")
    files = find_files(folders) if listing is None else listing.files()
    if given is not None:
        files = [file for file in files if file[0] in given]
        if not files:
            raise CorpusError(
                f"{manifest} names none of the files found; its paths must be relative to the folder that is ingested"
            )
    out = out.resolve()
    plans = plan_shards(files, out, is_performance=listing is not None and listing.is_performance)
    on_start(len(files))
    results = _on_ray(plans, out, workers) if uses_ray else (fill_shard(plan, out) for plan in plans)
    for result in results:
        on_shard(result)
    return finish(out, given=given, listing=listing)


def _on_ray(
    plans: Sequence[ShardPlan],
    out: Path,
    workers: int | None,
    *,
    fill: Callable[[ShardPlan, Path], ShardResult] = fill_shard,
) -> Iterator[ShardResult]:
    """Fill the shards as tasks of one Ray Data pipeline; yield each result when it is ready."""
    with ray_session(cpus=workers or os.cpu_count()):
        import ray.data

        # The command line has its own progress bar.
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # Rows are JSON: Arrow structs would give each shard's counts the reasons of all shards.
        rows = [{"plan": json.dumps(asdict(plan))} for plan in plans]
        # Ray Data retries a task without limit when its process dies; shards.Journal skips the file that killed it.
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
