"""Train, serve, collect judgments and close the loop, on Ray. Speaks to the library below, never the other way."""
