"""From predictions to numbers that hold: metrics, intervals, the run directory, reports and comparisons.

Names are loaded when first used, so that `ser_models.evaluation.metrics` costs a training worker no drawing
library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_models.evaluation.comparison import Comparison, EvaluateConfig, check_comparable, compare
    from ser_models.evaluation.comparison_table import print_comparison, write_comparison
    from ser_models.evaluation.report import save_report, write_report
    from ser_models.evaluation.run import Run, read_run
    from ser_models.evaluation.summary import save_metrics, summarise

_HOMES = {
    "Comparison": "comparison",
    "EvaluateConfig": "comparison",
    "Run": "run",
    "check_comparable": "comparison",
    "compare": "comparison",
    "print_comparison": "comparison_table",
    "read_run": "run",
    "save_metrics": "summary",
    "save_report": "report",
    "summarise": "summary",
    "write_comparison": "comparison_table",
    "write_report": "report",
}

__all__ = [
    "Comparison",
    "EvaluateConfig",
    "Run",
    "check_comparable",
    "compare",
    "print_comparison",
    "read_run",
    "save_metrics",
    "save_report",
    "summarise",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
