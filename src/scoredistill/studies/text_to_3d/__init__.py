"""The text-to-3D study: which estimator makes objects most like their prompts, at equal cost."""
