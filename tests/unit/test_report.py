"""The report page: what it says, what it must never say, and that it stands alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_directories import write_run

from ser_models.evaluation import compare, read_run, summarise, write_report
from ser_models.evaluation.comparison_table import comparison_html
from ser_models.evaluation.report import render_report
from ser_models.protocols.leaks import Finding, LeakReport

_VOID = {"meta", "br", "link", "hr", "img"}


class Page(HTMLParser):
    """Checks nesting and collects text and tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id" and value]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(folder: Path) -> str:
    return Path(write_report(str(folder))).read_text()


def test_the_number_and_its_interval_come_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    source = page_of(folder)
    summary = summarise(read_run(str(folder)))
    uar = summary["pooled"]["uar"]
    text = Page(source).text
    number = f"UAR {100 * uar['mean']:.1f} %"
    bounds = f"{100 * uar['interval']['low']:.1f} to {100 * uar['interval']['high']:.1f} %"
    assert text.index(number) < text.index(bounds) < text.index("Protocol and leaks")
    assert "delete-one-speaker jackknife over 6 speakers" in text
    assert "Guessing gives UAR 33.3 %" in text


def test_the_page_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    source = page_of(write_run(tmp_path / "run", refit=True, seeds=(0, 1)))
    page = Page(source)
    assert "viewport" in source
    assert "prefers-color-scheme: dark" in source
    assert page.tags.count("svg") == 3
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\((?!#)|\bsrc=", source)
    assert len(set(page.ids)) == len(page.ids), "figures share ids"


def test_text_of_a_corpus_is_escaped(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        classes=("<script>alert(1)</script>", "a & b", "$\\frac{x$"),
        speaker_name="<script>speaker",
        corpus='"><img src=x onerror=alert(1)>',
        synthetic=True,
    )
    (folder / "config.yaml").write_text("name: <b>bold</b>\nseeds: [0]\n")
    source = page_of(folder)
    page = Page(source)
    assert not {"script", "img", "b"} & set(page.tags)
    assert "&lt;script&gt;speaker" in source
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_synthetic_corpus_is_told_at_the_top(tmp_path: Path, synthetic: bool) -> None:
    text = Page(page_of(write_run(tmp_path / "run", synthetic=synthetic))).text
    assert ("SYNTHETIC corpus" in text[:300]) is synthetic


def test_faithful_runs_name_their_leaks(tmp_path: Path) -> None:
    text = Page(page_of(write_run(tmp_path / "run", preset="faithful"))).text
    assert "Faithful preset. This repeats a published protocol with its faults (test-selection)." in text
    assert "test-selection : the paper's code does so" in text


def test_a_missing_leak_check_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "leaks.json").unlink()
    (folder / "ledger.jsonl").unlink()
    text = Page(page_of(folder)).text
    assert "No leak check was recorded" in text
    assert "No ledger of test reads was kept" in text


def test_findings_of_the_leak_check_are_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    found = Finding(
        leak="identical-audio",
        parts={"training and test": 2, "validation and test": 1},
        folds=3,
        tested=3,
        share=0.125,
        examples=("a = b",),
        allowed=False,
    )
    report = LeakReport("clean", "p", (), (found,))
    (folder / "leaks.json").write_text(json.dumps(report.as_dict()))
    text = Page(page_of(folder)).text
    assert "identical-audio 3 NO training and test 2, validation and test 1 3 12.5 % a = b" in text


def test_a_system_without_epochs_has_no_learning_curve(tmp_path: Path) -> None:
    source = page_of(write_run(tmp_path / "run", epochs=0))
    assert "timnet is not trained by epochs" in Page(source).text
    assert source.count("<svg") == 2


def test_epochs_without_validation_are_drawn_as_far_as_known(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", epochs=3)
    for record in folder.glob("seed-*/fold-*/fold.json"):
        text = re.sub(r'"validation_(\w+)": [\d.]+', r'"validation_\1": null', record.read_text())
        record.write_text(text)
    source = page_of(folder)
    assert "training, mean of folds" in source
    assert "validation, mean of folds" not in source


def test_sessions_are_called_sessions(tmp_path: Path) -> None:
    text = Page(page_of(write_run(tmp_path / "run", unit="session"))).text
    assert "delete-one-session jackknife over 3 sessions" in text


def test_groups_with_different_classes_are_not_compared(tmp_path: Path) -> None:
    """Every third utterance has no intensity, so each intensity holds one class only."""
    text = Page(page_of(write_run(tmp_path / "run"))).text
    assert "By gender, in per cent; UAR differs by" in text
    assert "By intensity, in per cent intensity" in text
    assert "it cannot be set beside the rest" in text


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = read_run(str(write_run(tmp_path / "run")))
    assert render_report(run, summarise(run)) == render_report(run, summarise(run))


def test_hundreds_of_speakers_are_drawn_without_names(tmp_path: Path) -> None:
    source = page_of(write_run(tmp_path / "run", speakers=70, utterances=3))
    assert "70 speakers</text>" in source
    assert "bootstrap over 70 speakers" in source


def test_the_comparison_page_is_well_formed_and_escapes_names(tmp_path: Path) -> None:
    runs = [
        read_run(str(write_run(tmp_path / name, random_seed=seed, refit=True)))
        for seed, name in enumerate(("<script>one", "two"))
    ]
    source = comparison_html(compare(runs, [summarise(run) for run in runs]))
    page = Page(source)
    assert "script" not in page.tags
    assert not re.search(r"https?://|@import|url\(|\bsrc=", source)
    assert "<script>one (refit)" in page.text
    assert "The smallest p that 6 speakers can reach is 0.0312" in page.text
