"""The text-to-image study: every method on a prior, compared with the prior's own samples."""
