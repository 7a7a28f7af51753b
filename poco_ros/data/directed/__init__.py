"""Demonstrators that pursue a task, imperfectly: OGBench's oracles, and scripts for Lift, Can and
Square."""
