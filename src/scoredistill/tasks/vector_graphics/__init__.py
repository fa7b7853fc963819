"""Text to vector graphics, and editing of vector graphics."""
