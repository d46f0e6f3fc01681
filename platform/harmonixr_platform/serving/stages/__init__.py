"""The deployments of the graph."""
