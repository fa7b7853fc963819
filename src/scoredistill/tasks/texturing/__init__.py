"""Texturing: a prompt becomes the texture of a given mesh."""
