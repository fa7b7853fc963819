"""The study of edits: CSD-Edit and its alternatives on images and videos whose true edit is known."""
