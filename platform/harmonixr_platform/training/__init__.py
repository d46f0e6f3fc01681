"""Jobs on Ray: ingest, training, sweeps, reward models."""
