"""Finished jobs, each one call: a prompt becomes a picture. The command line is a thin caller of these."""

from scoredistill.tasks.text_to_image import METHODS, Request, Result, text_to_image

__all__ = ["METHODS", "Request", "Result", "text_to_image"]
