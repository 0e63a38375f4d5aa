"""The tab "DMM merge"."""
