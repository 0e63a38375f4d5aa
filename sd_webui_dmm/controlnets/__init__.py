"""Merged ControlNets: which control each unit follows."""
