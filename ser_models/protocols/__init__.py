"""Honest divisions of a corpus: folds, the check for leaks, the ledger of test reads."""
