"""Editing of the texture of a mesh by instruction."""
