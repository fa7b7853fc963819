"""The study of edits: CSD-Edit and its alternatives on pictures and videos whose true edit is known."""
