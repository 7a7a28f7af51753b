"""Simulated environments behind one contract, and the node that serves any of them.

Importing this package imports no simulator: :func:`sim_bridge.factory.make_environment` does.
"""
