"""Evaluate runs: one table on the terminal, metrics.json and report.html in each run.

One run: python workflows/evaluate.py RUN
Several: python workflows/evaluate.py RUN_A RUN_B --output FOLDER (same corpus, classes and preset)
Runs on emotion and runs on dimensions get a table each.
"""

from ser_models import cli
from ser_models.evaluation import (
    EvaluateConfig,
    by_objective,
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
    summaries = {
        run.uri: summarise(run, level=config.level, resamples=config.resamples, seed=config.seed)
        for run in runs
    }
    tables = [
        compare(alike, [summaries[run.uri] for run in alike], seed=config.seed)
        for alike in by_objective(runs)
    ]
    for table in tables:
        print_comparison(table)
    for run in runs:
        save_metrics(run, summaries[run.uri])
        print(save_report(run, summaries[run.uri]))
    if config.output:
        for table in tables:
            print(write_comparison(table, config.output))


if __name__ == "__main__":
    cli.run(main, EvaluateConfig, description=__doc__, positional="runs")
