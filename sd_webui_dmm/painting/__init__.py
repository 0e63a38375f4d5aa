"""Painting in styles, in the host's sampling."""
