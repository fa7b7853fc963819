"""The editing study: CSD-Edit and its alternatives on images and videos whose reference edit is known."""
