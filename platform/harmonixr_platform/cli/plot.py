"""`harmonixr plot`: draw a model, a fill, training runs or a sweep as an SVG file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.cli.arguments import add_model, model_file
from harmonixr_platform.cli.files import check_output, read_song, write_whole

if TYPE_CHECKING:
    from harmonixr_model.music.song import Song

EPILOG = """
examples:
  harmonixr plot embeddings -o embeddings.svg
  harmonixr plot saliency song.mid --bars 9-12 --tracks 1 -o saliency.svg
  harmonixr plot loss runs/nano/metrics.jsonl runs/small/metrics.jsonl -o loss.svg
  harmonixr plot sweep runs/tune-infill -o sweep.svg
"""


class PlotError(HarmonixrError):
    """The picture cannot be drawn from this input."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    pictures = parser.add_subparsers(dest="picture", metavar="PICTURE", required=True)
    embeddings = pictures.add_parser("embeddings", help="PCA and t-SNE of the embeddings, by musical attribute")
    add_model(embeddings)
    saliency = pictures.add_parser("saliency", help="a piano roll of the context; red notes influence a fill most")
    saliency.add_argument("song", metavar="SONG", help="a MIDI file, or the name of a bundled example")
    saliency.add_argument("--bars", required=True, metavar="9-12", help="bars to fill, counted from 1")
    saliency.add_argument("--tracks", metavar="2,Piano", help="numbers or names (default: all)")
    saliency.add_argument("--seed", type=int, default=0, help="of the fill (default: 0)")
    add_model(saliency)
    loss = pictures.add_parser("loss", help="loss curves of one run or several")
    loss.add_argument("runs", nargs="+", type=Path, metavar="METRICS", help="metrics.jsonl files, or their folders")
    loss.add_argument("--names", nargs="+", default=[], help="names of the runs (default: their folders)")
    loss.add_argument("--measure", default="loss", choices=("loss", "bits_per_note"), help="default: loss")
    loss.add_argument("--against", default="step", choices=("step", "tokens"), help="default: step")
    sweep = pictures.add_parser("sweep", help="parallel coordinates of a Ray Tune sweep")
    sweep.add_argument("folder", type=Path, metavar="FOLDER", help="the sweep's folder")
    sweep.add_argument("--metric", default="valid_loss", help="a metric to minimise (default: valid_loss)")
    for picture in (embeddings, saliency, loss, sweep):
        picture.add_argument("--title", default="", help="title of the picture")
        picture.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.svg", help="file to write")


def run(args: argparse.Namespace) -> int:
    """Draw one picture and write it; return 0."""
    check_output(args.output, inputs=[], force=True)
    draw = {"embeddings": _embeddings, "saliency": _saliency, "loss": _loss, "sweep": _sweep}[args.picture]
    write_whole(args.output, draw(args).encode())
    print(args.output)
    return 0


def _embeddings(args: argparse.Namespace) -> str:
    from harmonixr_model.infill.checkpoint import load_checkpoint
    from harmonixr_model.pictures.embeddings import draw_embeddings

    path, name = model_file(args.model)
    model, _ = load_checkpoint(path)
    return draw_embeddings(model, title=args.title or f"Embeddings of the {name} model, by musical attribute")


def _saliency(args: argparse.Namespace) -> str:
    from harmonixr_model.engine.decoder import Decoder
    from harmonixr_model.engine.engine import Sampling
    from harmonixr_model.fill.session import FillSession
    from harmonixr_model.infill.checkpoint import load_checkpoint
    from harmonixr_model.music.region_text import read_region
    from harmonixr_model.pictures.saliency import draw_saliency

    song = _song(args.song)
    tracks = args.tracks.split(",") if args.tracks else None
    region = read_region(song, bars=args.bars, tracks=tracks)
    path, _ = model_file(args.model)
    model, _ = load_checkpoint(path)
    session = FillSession(song, region, max_length=model.config.max_length)
    prompt = session.next_prompt()
    if prompt is None:
        raise PlotError(f"bars {args.bars} contain nothing to fill; choose bars of the song")
    [made] = Decoder(model).generate(prompt, seeds=[args.seed], sampling=Sampling())
    title = args.title or f"Influence on a fill of bars {args.bars} of {Path(args.song).stem}"
    return draw_saliency(model, prompt, made.tokens, title=title)


def _song(name: str) -> Song:
    from harmonixr_model import examples
    from harmonixr_model.music.song import Song

    if not Path(name).exists() and name in examples.names():
        return Song.parse(examples.load(name))
    return read_song(Path(name))


def _loss(args: argparse.Namespace) -> str:
    from harmonixr_model.pictures.curves import draw_curves, read_curve

    paths = [path / "metrics.jsonl" if path.is_dir() else path for path in args.runs]
    names = args.names or [path.absolute().parent.name for path in paths]
    if len(names) != len(paths):
        raise PlotError(f"{len(names)} names for {len(paths)} runs; give each run one")
    how = {"measure": args.measure, "against": args.against}
    curves = [read_curve(path, name=name, **how) for path, name in zip(paths, names, strict=True)]
    return draw_curves(curves, title=args.title or f"{args.measure.replace('_', ' ').capitalize()} of training", **how)


def _sweep(args: argparse.Namespace) -> str:
    from harmonixr_model.pictures.parallel import draw_parallel, read_trials

    if not args.folder.is_dir():
        raise FileNotFoundError(2, "no such folder", str(args.folder))
    trials = read_trials(args.folder, metric=args.metric)
    return draw_parallel(trials, metric=args.metric, title=args.title or f"Sweep {args.folder.resolve().name}")
