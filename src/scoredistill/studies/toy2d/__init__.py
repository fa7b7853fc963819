"""Two-dimensional toys with exact densities, on which estimators and samplers are measured."""
