"""Floor of the nodes: each is thin, and none imports another."""
