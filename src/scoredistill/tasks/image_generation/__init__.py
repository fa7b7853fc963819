"""Text to image: a prompt becomes images, by score distillation or by sampling with DDIM."""
