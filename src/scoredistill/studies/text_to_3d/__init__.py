"""The study of things made from text: which estimator makes them most like their prompts, at equal cost."""
