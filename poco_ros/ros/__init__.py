"""Floor 2: what every node shares. Message fields are touched here and nowhere else."""
