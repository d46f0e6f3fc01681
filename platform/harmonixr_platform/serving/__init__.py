"""The graph that Ray Serve runs."""
