"""The options of `harmonixr infill`, and the library's values that they give."""

from __future__ import annotations

import argparse
import contextlib
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from harmonixr_model.engine.engine import GUIDANCE, Sampling, temperature_text
from harmonixr_model.errors import ControlError, RegionError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.control import Control, controls_of, read_controls
from harmonixr_model.music.region import Cell, Region
from harmonixr_model.music.region_text import read_region
from harmonixr_model.music.score import Track
from harmonixr_model.notes.encoded_score import NoteField
from harmonixr_model.prompt.controls import CONTROLS, AttributeControls

if TYPE_CHECKING:
    from harmonixr_model.music.song import Song

EPILOG = """
Bars, beats and tracks are counted from 1 and ranges include both ends. Everything outside the region stays as it is.
  harmonixr infill song.mid --list
  harmonixr infill song.mid --bars 9-12 --tracks 2 -o out.mid
  harmonixr infill song.mid --beats 33-36 --tracks Piano,Bass --key "G major" --n 4 -o out.mid
  harmonixr infill song.mid --bars 9-12 --tracks 1 --chords "C | Am" --chord-tones-only --density 2 --enforce -o out.mid
  harmonixr infill song.mid --bars 9-12 --only velocity -o humanised.mid
  harmonixr infill song.mid --continue 4 -o longer.mid
  harmonixr infill song.mid --bars 1-8 --new-track "Acoustic Bass" --max-polyphony 1 -o with-bass.mid
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("song", type=Path, metavar="SONG.mid", help="the MIDI file; it is never changed")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.mid", help="where to write; several: OUT.1.mid …")
    parser.add_argument("--list", action="store_true", help="print the song's tracks, bars and beats, and fill nothing")
    parser.add_argument("--wav", type=Path, metavar="OUT.wav", help="also write the sound of the fill in its place")
    parser.add_argument("--model", type=Path, metavar="PATH", help="other weights than the shipped ones")
    parser.add_argument("--force", action="store_true", help="allow OUT.mid to be SONG.mid")
    _add_region(parser.add_argument_group("what to fill"))
    _add_sampling(parser.add_argument_group("how to sample"))
    _add_controls(parser.add_argument_group("constraints, which every fill keeps"), Constraints)
    title = "attribute controls, which the model follows as well as it was trained to"
    _add_controls(parser.add_argument_group(title), AttributeControls)


def _add_region(group: argparse._ArgumentGroup) -> None:
    where = group.add_mutually_exclusive_group()
    where.add_argument("--bars", metavar="9-12", help="bars, also '5' or '1-4,9-12'")
    where.add_argument("--beats", metavar="33-36", help="beats of the song")
    where.add_argument("--continue", type=int, metavar="N", dest="continue_bars", help="N bars after the song's end")
    tracks = group.add_mutually_exclusive_group()
    tracks.add_argument("--tracks", metavar="2,Piano", help="numbers or names; left out: all")
    tracks.add_argument(
        "--new-track", metavar="PROGRAM", help="add a track: a program 0-127, an instrument's name, or 'drums'"
    )
    group.add_argument(
        "--only",
        choices=get_args(NoteField),
        help="keep the notes and change only this field of them (a rhythm is onsets and durations)",
    )
    group.add_argument("--band", metavar="60-72", help="replace only notes of these MIDI pitches")
    group.add_argument(
        "--lock",
        action="append",
        default=[],
        metavar="TRACK:TICK:PITCH",
        help="keep this note of the region; can be given several times",
    )


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--n", type=int, default=1, metavar="N", help="number of fills (1)")
    group.add_argument("--seed", type=int, help="the same seed gives the same fill; left out: a new one, printed")
    group.add_argument(
        "--temperature", type=float, metavar="T", help=f"0: the likeliest notes ({temperature_text(None)})"
    )
    group.add_argument("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens (0: all)")
    group.add_argument("--top-p", type=float, metavar="P", help="sample from this share of the probability (0.98)")
    group.add_argument(
        "--copy-strength",
        type=float,
        metavar="C",
        help="how much to repeat the song: 0 as the model alone does, 1 as often as songs do (1); "
        "no effect with attribute controls or --only",
    )
    # The option's name in version 0.1.
    group.add_argument("--recall", type=float, dest="copy_strength", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    group.add_argument(
        "--guidance",
        type=float,
        metavar="G",
        help=f"guidance towards attribute controls; 1: none, in half the time ({GUIDANCE:g})",
    )


def _add_controls(group: argparse._ArgumentGroup, kind: type) -> None:
    for control in controls_of(kind).values():
        option = _option(control.name)
        if control.type is bool:
            group.add_argument(option, action="store_true", help=control.help)
        else:
            group.add_argument(option, type=control.type, metavar=_metavar(control), help=control.help)


def with_option_names(message: str) -> str:
    """Return an error message with the names of controls that have several words spelt as options."""
    names = "|".join(control.name for control in CONTROLS if "_" in control.name)
    return re.sub(rf"\b({names})\b", lambda found: _option(found[0]), message)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(control: Control) -> str:
    return "N" if control.type is not str else repr(control.example) if control.example else "NAME"


def constraints_of(args: argparse.Namespace) -> Constraints:
    """Return the constraints of the options."""
    return read_controls(Constraints, vars(args))


def attribute_controls_of(args: argparse.Namespace) -> AttributeControls:
    """Return the attribute controls of the options."""
    controls = read_controls(AttributeControls, vars(args))
    if args.guidance not in (None, 1) and not controls.conditioning:
        raise ControlError("--guidance needs an attribute control that is not enforced; add one, such as --density 2")
    return controls


def sampling_of(args: argparse.Namespace) -> Sampling:
    """Return the sampling settings of the options."""
    given: dict[str, Any] = {setting.name: getattr(args, setting.name) for setting in fields(Sampling)}
    return Sampling(**{name: value for name, value in given.items() if value is not None})


def region_of(args: argparse.Namespace, song: Song) -> tuple[Region, Track | None]:
    """Return the region to fill, and the track to add; raises RegionError or ControlError."""
    if not (args.bars or args.beats or args.continue_bars is not None):
        last = len(song.score.bars)
        raise RegionError(
            f"give the region to fill: --bars within 1-{last}, --beats, or --continue N; --list shows the song"
        )
    low, high = _band(args.band)
    tracks = ["1"] if args.new_track else args.tracks
    region = read_region(
        song,
        bars=args.bars,
        beats=args.beats,
        continue_bars=args.continue_bars,
        tracks=tracks,
        pitch_low=low,
        pitch_high=high,
        locks=[_lock(text) for text in args.lock],
    )
    if not args.new_track:
        return region, None
    if args.lock:
        raise RegionError("a new track has no notes to lock; leave --lock out")
    cells = tuple(Cell(len(song.score.tracks), cell.start, cell.end) for cell in region.cells)
    return Region(cells, low, high), _new_track(args.new_track)


def _band(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 127
    low, _, high = text.partition("-")
    if not (low.strip().isdecimal() and (high or low).strip().isdecimal()):
        raise RegionError(f"cannot read the band {text!r}; write two MIDI pitches, such as 60-72")
    return int(low), int(high or low)


def _lock(text: str) -> tuple[str, int, int]:
    track, *numbers = text.rsplit(":", 2)
    if len(numbers) != 2 or not all(number.strip().isdecimal() for number in numbers):
        raise RegionError(f"cannot read the lock {text!r}; write TRACK:TICK:PITCH, such as 2:3840:60")
    return track, int(numbers[0]), int(numbers[1])


def _new_track(text: str) -> Track:
    if text.strip().casefold() == "drums":
        return Track(is_drum=True, name="Drums")
    from pretty_midi import instrument_name_to_program, program_to_instrument_name

    if text.strip().isdecimal():
        program = int(text)
    else:
        with contextlib.suppress(ValueError):
            program = instrument_name_to_program(text.strip())
            return Track(program=program, name=program_to_instrument_name(program))
        raise ControlError(
            f"there is no instrument {text!r}; give a program 0-127, a General MIDI name such as 'Acoustic Bass', "
            "or 'drums'"
        )
    if program > 127:
        raise ControlError(f"program {program} is out of range; give 0-127, as in the file")
    return Track(program=program, name=program_to_instrument_name(program))
