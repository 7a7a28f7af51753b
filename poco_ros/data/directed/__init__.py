"""Demonstrators that pursue a task, imperfectly: OGBench's oracles, and a script for Lift."""
