"""Cross-validate one system on one corpus.

python workflows/train.py --config configs/timnet/ravdess_clean.yaml
python workflows/train.py --system timnet --corpus ravdess --shards shards --preset clean --workers 2
"""

from ser_models import cli
from ser_models.evaluation.report import write_report
from ser_models.training.cross_validation import cross_validate
from ser_models.training.plan import TrainConfig


def main(config: TrainConfig) -> None:
    """Train every fold, then score the run and write its report."""
    run = cross_validate(config)
    print(write_report(run))


if __name__ == "__main__":
    cli.run(main, TrainConfig, description=__doc__)
