"""DMM in AUTOMATIC1111's WebUI, Forge and reForge: the accordion, the tags, the API."""
