"""The tabs of the app: one file each, with a function that builds the tab and connects its button to the panel."""
