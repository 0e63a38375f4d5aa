"""The emoji benchmark: ways to put many styles into one model, on the same teachers and prompts."""
