"""From predictions to numbers that hold: metrics, intervals, the run directory, reports and comparisons.

Names are loaded when first used, so that `ser_models.evaluation.metrics` costs a training worker no drawing
library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_models.evaluation.comparability import by_objective, check_comparable
    from ser_models.evaluation.comparison import Comparison, EvaluateConfig, compare
    from ser_models.evaluation.comparison_table import print_comparison, write_comparison
    from ser_models.evaluation.dimension_comparison import DimensionComparison
    from ser_models.evaluation.report import save_report, write_report
    from ser_models.evaluation.run import DimensionRun, Run, read_run
    from ser_models.evaluation.summary import save_metrics, summarise

_HOMES = {
    "Comparison": "comparison",
    "DimensionComparison": "dimension_comparison",
    "DimensionRun": "run",
    "EvaluateConfig": "comparison",
    "Run": "run",
    "by_objective": "comparability",
    "check_comparable": "comparability",
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
    "DimensionComparison",
    "DimensionRun",
    "EvaluateConfig",
    "Run",
    "by_objective",
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
