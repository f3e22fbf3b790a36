"""Trained models as folders: saving, loading, using."""
