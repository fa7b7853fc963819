"""Editing of images and videos by instruction: what `edit_image` and `edit_video` have in common."""
