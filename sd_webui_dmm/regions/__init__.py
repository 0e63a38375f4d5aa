"""Regions: places of a picture with a mix of their own."""
