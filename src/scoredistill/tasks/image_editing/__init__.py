"""Editing of images by instruction, and what it shares with the editing of videos and scenes."""
