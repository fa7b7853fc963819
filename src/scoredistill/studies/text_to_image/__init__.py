"""The study of text to image: every method on a bundled or given prior, judged against the prior's own samples."""
