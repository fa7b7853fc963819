"""video_editing."""
