"""The trainer: turns N checkpoints into one merged checkpoint. `python trainer/run.py --help`."""
