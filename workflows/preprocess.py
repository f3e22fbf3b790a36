"""Compute the features of a corpus, once and in parallel, into Parquet shards.

python workflows/preprocess.py --corpus ravdess --root data/ravdess --views mfcc --output shards

Run it again after an interruption and it continues; run it again after success and it does nothing.
"""

from ser_models import cli
from ser_models.shards.preprocess import PreprocessConfig, preprocess


def main(config: PreprocessConfig) -> None:
    """Preprocess and say what was done."""
    preprocess(config, say=print)


if __name__ == "__main__":
    cli.run(main, PreprocessConfig, description=__doc__ or "")
