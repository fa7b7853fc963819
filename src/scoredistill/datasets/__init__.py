"""Data: emoji, photographs and clips, procedural edits, synthetic 3-D scenes, and toy distributions in the plane."""
