"""The study of collaboration: editors with exact scores whose instruction has several equally good answers."""
