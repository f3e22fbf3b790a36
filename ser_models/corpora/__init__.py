"""Corpora: from folders of recordings to one table of utterances, checked against the published counts."""

from ser_models.corpora.manifest import (
    CORPORA,
    Parsed,
    load_corpus,
    load_manifest,
    parse_corpus,
    partial_corpus,
    problems_of,
    save_manifest,
)
from ser_models.corpora.parser import Corpus, Counts, Findings, Problem, Selection
from ser_models.corpora.utterance import DIMENSIONS, EMOTIONS, MANIFEST_SCHEMA, Utterance, build_table

__all__ = [
    "CORPORA",
    "DIMENSIONS",
    "EMOTIONS",
    "MANIFEST_SCHEMA",
    "Corpus",
    "Counts",
    "Findings",
    "Parsed",
    "Problem",
    "Selection",
    "Utterance",
    "build_table",
    "load_corpus",
    "load_manifest",
    "parse_corpus",
    "partial_corpus",
    "problems_of",
    "save_manifest",
]
