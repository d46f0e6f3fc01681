"""The pages a musician and a listener use. Speaks HTTP to the graph, and nothing else."""
