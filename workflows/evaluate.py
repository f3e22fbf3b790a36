"""Evaluate runs: one table on the terminal, metrics.json and report.html in each run.

One run: python workflows/evaluate.py RUN
Several: python workflows/evaluate.py RUN_A RUN_B --output FOLDER (same corpus, classes and preset)
"""

from ser_models import cli
from ser_models.evaluation import (
    EvaluateConfig,
    check_comparable,
    compare,
    print_comparison,
    read_run,
    save_metrics,
    save_report,
    summarise,
    write_comparison,
)


def main(config: EvaluateConfig) -> None:
    """Read all runs, refuse what does not belong in one table, then write."""
    runs = [read_run(uri, allow_incomplete=config.allow_incomplete) for uri in config.runs]
    check_comparable(runs)
    summaries = [
        summarise(run, level=config.level, resamples=config.resamples, seed=config.seed) for run in runs
    ]
    comparison = compare(runs, summaries, seed=config.seed)
    print_comparison(comparison)
    for run, summary in zip(runs, summaries, strict=True):
        save_metrics(run, summary)
        print(save_report(run, summary))
    if config.output:
        print(write_comparison(comparison, config.output))


if __name__ == "__main__":
    cli.run(main, EvaluateConfig, description=__doc__, positional="runs")
