"""image_generation."""
