"""Fitting folds and cross-validating systems, in one process or on Ray Train."""
