"""Insert a fill into a song and change nothing else.

Three invariants hold for every fill. Without a change, the output equals the input byte for byte. Every event except
the deleted and inserted note pairs keeps its tick, message and order. A new note never overlaps another note of its
channel and pitch, on any track.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from harmonixr_model.errors import RegionError
from harmonixr_model.music.region import Region
from harmonixr_model.music.rewrite import AFTER, ChunkEdit, Insertion, rewrite
from harmonixr_model.music.score import Note, Track
from harmonixr_model.music.song import DRUM_CHANNEL, Song
from harmonixr_model.music.write import MAX_DELTA, Chunk, program_change


@dataclass(frozen=True, slots=True)
class EditedSong:
    """An edited MIDI file.

    Attributes:
        midi: the whole file.
        notes: the new or changed notes by track, in the song's ticks; new tracks are numbered after the song's.
        dropped: how many notes were not inserted or not changed, because they would collide with others.
    """

    midi: bytes
    notes: dict[int, tuple[Note, ...]]
    dropped: int


class _Place(NamedTuple):
    """The chunk and channel of a track's new notes; new chunks are numbered after the file's."""

    chunk: int
    channel: int


def splice(
    song: Song, region: Region, fill: Mapping[int, Sequence[Note]], *, new_tracks: Sequence[Track] = ()
) -> EditedSong:
    """Return the song with the region's notes replaced by those of `fill` (by track), and `new_tracks` added.

    Notes are in the song's ticks. A track of the region that `fill` does not name becomes empty there. A note may sound
    past the region's end. A note that would collide is shortened; if that does not help, or if the note has no length,
    it is dropped and counted. Velocities are clamped to 1-127. A new track takes the first channel that no event of the
    file uses (drums share channel 10). It gets a chunk of its own, or in a file of format 0 joins the only chunk.

    Raises:
        RegionError: the region or the fill names a track the song does not have, a fill's note begins outside the
            region or its pitch band, or no channel is free for a new track.
    """
    region.check(song.score)
    _check_fill(song, region, fill)
    tracks = (*song.score.tracks, *new_tracks)
    first_new, chunks = len(song.chunks), len(song.midi.tracks)
    places = [_Place(chunk, track.channel) for chunk, track in zip(song.chunks, tracks, strict=False)]
    for i, channel in enumerate(new_channels(song, new_tracks)):
        places.append(_Place(chunks + i if _gets_chunk(song) else 0, channel))
    edits = _deletions(song, region)
    wanted = {**fill, **{first_new + i: track.notes for i, track in enumerate(new_tracks)}}
    candidates = sorted((note.onset, track, note) for track, notes in wanted.items() for note in notes)
    wanted_lanes = {(places[track].channel, note.pitch) for _, track, note in candidates}
    accepted = _fit(candidates, places, _sounding(song, edits, wanted_lanes))
    new_chunks: list[bytes] = []
    for i, (track, place) in enumerate(zip(tracks, places, strict=True)):
        if i >= first_new:
            new_chunks += _add_track(song, track, place, accepted.get(i, ()), edits)
        elif i in accepted:
            edits[place.chunk].insert_notes(place.channel, accepted[i])
    dropped = len(candidates) - sum(len(notes) for notes in accepted.values())
    return EditedSong(rewrite(song.midi, edits, new_chunks=new_chunks), accepted, dropped)


def _check_fill(song: Song, region: Region, fill: Mapping[int, Sequence[Note]]) -> None:
    within = Region(region.cells, region.pitch_low, region.pitch_high)
    for track, notes in fill.items():
        for note in notes:
            if not within.contains(track, note):
                raise RegionError(
                    f"a note of the fill (track {track + 1}, tick {note.onset}, pitch {note.pitch}) lies outside the "
                    "region; give notes that begin in a cell of their track and lie in the pitch band"
                )


def _deletions(song: Song, region: Region) -> dict[int, ChunkEdit]:
    """Return edits by chunk that delete the notes of the region."""
    edits: dict[int, ChunkEdit] = defaultdict(ChunkEdit)
    for track in region.tracks:
        for note, source in zip(song.score.tracks[track].notes, song.sources[track], strict=True):
            if region.contains(track, note):
                edits[source.chunk].deleted |= {source.on} if source.off is None else {source.on, source.off}
    return edits


def new_channels(song: Song, new_tracks: Sequence[Track]) -> list[int]:
    """Return the channels that new tracks get; raises RegionError where too few are free."""
    used = {message[0] & 0x0F for events in song.midi.tracks for _, message in events if message[0] < 0xF0}
    free = [channel for channel in range(16) if channel not in used and channel != DRUM_CHANNEL]
    melodic = sum(not track.is_drum for track in new_tracks)
    if melodic > len(free):
        raise RegionError(
            f"no MIDI channel is free for {'a new track' if not free else f'{melodic} new tracks'}: the song uses "
            f"{len(used)} of 16 and {len(free)} are left; remove a track, or fill one that exists"
        )
    channels = iter(free)
    return [DRUM_CHANNEL if track.is_drum else next(channels) for track in new_tracks]


def _gets_chunk(song: Song) -> bool:
    return song.midi.format == 1 or not song.midi.tracks


class _Lane:
    """The notes of one channel and pitch in one chunk, as half-open intervals of ticks."""

    def __init__(self, intervals: Iterable[tuple[int, float]]) -> None:
        ordered = sorted(intervals)
        self.starts = [start for start, _ in ordered]
        self.latest_end = list(accumulate((end for _, end in ordered), max))

    def room(self, onset: int, *, gap: int) -> float:
        """Return the latest end of a note at `onset`, `gap` ticks clear of the others; 0 where no note may begin."""
        following = bisect_right(self.starts, onset)
        if following and onset < self.latest_end[following - 1] + gap:
            return 0
        return self.starts[following] - gap if following < len(self.starts) else math.inf


def _sounding(
    song: Song, edits: Mapping[int, ChunkEdit], wanted: Set[tuple[int, int]]
) -> dict[tuple[int, int], dict[int, _Lane]]:
    """Return the lanes of the `wanted` (channel, pitch) pairs after the deletion, by chunk."""
    intervals: dict[tuple[int, int], dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for track, sources in zip(song.score.tracks, song.sources, strict=True):
        pitches = {pitch for channel, pitch in wanted if channel == track.channel}
        for note, (chunk, on, off) in zip(track.notes, sources, strict=True) if pitches else ():
            if note.pitch in pitches and not (chunk in edits and on in edits[chunk].deleted):
                end = math.inf if off is None else note.end
                intervals[track.channel, note.pitch][chunk].append((note.onset, end))
    for chunk, channel, pitch, tick in song.unmatched_offs:
        if (channel, pitch) in wanted:
            intervals[channel, pitch][chunk].append((tick, tick))
    return {key: {chunk: _Lane(found) for chunk, found in intervals[key].items()} for key in wanted}


def _fit(
    candidates: Sequence[tuple[int, int, Note]],
    places: Sequence[_Place],
    sounding: Mapping[tuple[int, int], Mapping[int, _Lane]],
) -> dict[int, tuple[Note, ...]]:
    """Return by track the notes that fit, shortened where needed; `candidates` are sorted (onset, track, note)."""
    accepted: dict[int, list[Note]] = {track: [] for track in sorted({track for _, track, _ in candidates})}
    latest: dict[tuple[int, int], tuple[int, int]] = {}
    for onset, track, note in candidates:
        place = places[track]
        key = (place.channel, note.pitch)
        # The file fixes the order at one tick within a chunk only. Between chunks one tick stays clear.
        rooms = [lane.room(onset, gap=int(chunk != place.chunk)) for chunk, lane in sounding[key].items()]
        end = min([note.end, MAX_DELTA, *rooms])
        if end <= onset or onset < 0 or not 0 <= note.pitch <= 127:
            continue
        if key in latest:
            earlier_track, position = latest[key]
            earlier = accepted[earlier_track][position]
            stop = onset - int(places[earlier_track].chunk != place.chunk)
            if stop <= earlier.onset:
                continue
            accepted[earlier_track][position] = earlier._replace(duration=min(earlier.end, stop) - earlier.onset)
        latest[key] = (track, len(accepted[track]))
        accepted[track].append(Note(onset, int(end) - onset, note.pitch, min(127, max(1, note.velocity))))
    return {track: tuple(sorted(notes, key=lambda n: (n.onset, n.pitch))) for track, notes in accepted.items() if notes}


def _add_track(
    song: Song, track: Track, place: _Place, notes: Iterable[Note], edits: dict[int, ChunkEdit]
) -> list[bytes]:
    """Return the chunk of a new track, or add the track to the edits of a file's only chunk and return nothing."""
    # A program change on the shared drum channel would change the kit of the song's drums.
    sets_program = not (track.is_drum and any(known.is_drum for known in song.score.tracks))
    if _gets_chunk(song):
        chunk = Chunk(track.name)
        if sets_program:
            chunk.program(place.channel, track.program)
        chunk.notes(place.channel, notes)
        return [chunk.to_bytes()]
    if sets_program:
        edits[place.chunk].inserted.append(Insertion(0, AFTER, program_change(place.channel, track.program)))
    edits[place.chunk].insert_notes(place.channel, notes)
    return []
