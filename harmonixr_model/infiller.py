"""The documented import path of `harmonixr_model.fill.infiller`."""

from harmonixr_model.fill.infiller import Fill, Infiller, shipped_weights

__all__ = ["Fill", "Infiller", "shipped_weights"]
