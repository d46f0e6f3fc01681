"""Fill the gap in a piece of MIDI: a library of music, tokens, models and decoding.

    import harmonixr_model as hx

    song = hx.Song.parse(Path("song.mid").read_bytes())
    region = hx.Region.bars(song.score, 8, 11, tracks=[1])
    fills = hx.Infiller.load().fill(song, region, n=4, seed=7)

Each class is imported on first use, so that importing the package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmonixr_model.fill.infiller import Infiller
    from harmonixr_model.music.region import Region
    from harmonixr_model.music.song import Song

__all__ = ["Infiller", "Region", "Song"]
__version__ = "0.1.0"

_MODULES = {
    "Infiller": "harmonixr_model.fill.infiller",
    "Region": "harmonixr_model.music.region",
    "Song": "harmonixr_model.music.song",
}

if not TYPE_CHECKING:  # a type checker that sees __getattr__ accepts every name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
