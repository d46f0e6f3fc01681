"""The pages: fill a gap, listen and judge. They speak HTTP to the service and nothing else."""
