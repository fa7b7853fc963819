"""Losses that were reported once, tried again."""

LOSSES = {}
