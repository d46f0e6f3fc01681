"""The weights that ship with the package, and where their model card is."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parent / "infill-nano.safetensors"
MODEL_CARD = Path(__file__).parent / "MODEL_CARD.md"
