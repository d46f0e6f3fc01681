"""Reports and exports of judgments."""
