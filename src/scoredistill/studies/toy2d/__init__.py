"""The two-dimensional study: estimators and samplers on distributions whose scores are known exactly."""
