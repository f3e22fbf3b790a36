"""Speech emotion recognition on Ray: six published systems under honest protocols."""

__version__ = "0.1.0"
