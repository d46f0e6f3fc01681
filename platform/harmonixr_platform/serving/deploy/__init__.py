"""Start the graph on this machine, and check its configuration."""
