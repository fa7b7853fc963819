"""Editing of videos by instruction."""
