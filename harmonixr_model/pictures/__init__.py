"""Pictures of models and runs as SVG: embeddings, saliency, loss curves, sweeps. Draws; measures little."""
