"""Fill regions of songs: the infiller, the session of one region, and the ranker of fills."""
