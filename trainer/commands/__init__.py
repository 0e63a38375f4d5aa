"""The commands of `trainer/run.py`. Each imports what it needs when it runs: `--help` is quick."""
