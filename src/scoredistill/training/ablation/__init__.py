"""Ablation of the training recipe: variants that differ from a base in one thing, at equal CPU time."""
