"""Editing of 3-D scenes, given as photographs with known cameras, by instruction."""
