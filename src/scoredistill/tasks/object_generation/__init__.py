"""Text to 3D: a prompt becomes a radiance field or Gaussian splats."""
