"""The command line: files, overrides, help, and one line for whatever the user gets wrong."""

import dataclasses
from pathlib import Path

import pytest

from ser_models import cli
from ser_models.errors import UserError, WorkError
from ser_models.training.plan import TrainConfig

NEEDED = ["--system", "timnet", "--corpus", "ravdess", "--shards", "shards"]


def test_overrides_win_over_files_and_later_files_over_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "system: timnet\ncorpus: ravdess\nshards: s\nfold: {epochs: 3, patience: 2}\n"
    )
    (tmp_path / "b.yaml").write_text("fold: {epochs: 4}\nmodel: {blocks: 5}\n")
    arguments = [
        "--config",
        str(tmp_path / "a.yaml"),
        "--config",
        str(tmp_path / "b.yaml"),
        "--fold.patience",
        "7",
    ]
    config = cli.parse(TrainConfig, arguments)
    assert (config.fold.epochs, config.fold.patience, config.model) == (4, 7, {"blocks": 5})


def test_a_dumped_configuration_reads_back_as_the_same(tmp_path: Path) -> None:
    config = cli.parse(TrainConfig, [*NEEDED, "--fold.epochs", "3", "--model", '{"blocks": 4}', "--refit"])
    (tmp_path / "c.yaml").write_text(cli.dump(config))
    assert cli.load(TrainConfig, tmp_path / "c.yaml") == config and config.refit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*NEEDED, "--epochs", "3"], "unrecognized arguments: --epochs 3"),
        ([*NEEDED, "--fold.epoch", "3"], "unrecognized arguments: --fold.epoch 3"),
        ([*NEEDED, "--fold.epochs", "many"], 'fold.epochs".*many'),
        ([*NEEDED, "--fold.epochs", "0"], r"fold.epochs = 0: must be at least 1"),
        ([*NEEDED, "--preset", "honest"], 'preset".*honest'),
        ([*NEEDED, "--workers", "0"], "workers = 0: must be at least 1"),
        ([*NEEDED, "--local", "--workers", "2"], "workers = 2 needs local = false"),
        ([*NEEDED, "--protocol.folds", "loso"], "allowed: leave-one-speaker-out"),
        ([*NEEDED, "--protocol.leaks", "[spaeker]"], "unknown leak 'spaeker'; known: utterance, speaker"),
        ([*NEEDED, "--protocol.leaks", "speaker,spaeker"], "unknown leak 'spaeker'"),
        (
            [*NEEDED, "--protocol.only_folds", "0,x"],
            "only_folds 0,x: 'x' is not a whole number; write a list as",
        ),
        ([*NEEDED, "--protocol.only_folds", "[0,1.5]"], "'1.5' is not a whole number"),
        ([*NEEDED, "--protocol.only_folds"], "only_folds.*expected one argument"),
        (NEEDED[:4], "shards"),
        ([*NEEDED, "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        ([*NEEDED, "--name", "a/b"], "must be a folder name"),
    ],
)
def test_mistakes_become_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        cli.parse(TrainConfig, arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["fold: [1", "fold: 3\n", "- a\n", "nope: 1\n", "\x00", "fold:\n  epochs: {a: 1}\n"]
)
def test_a_broken_file_becomes_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        cli.parse(TrainConfig, [*NEEDED, "--config", str(tmp_path / "broken.yaml")])
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_becomes_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_bytes(b"\xff\xfe\x80 system: \xe9")
    with pytest.raises(UserError):
        cli.parse(TrainConfig, [*NEEDED, "--config", str(tmp_path / "broken.yaml")])


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        (["--allow-partial"], True),
        (["--allow_partial", "false"], False),
        (["--allow-partial=yes"], True),
        ([], False),
    ],
)
def test_hyphens_and_bare_switches_are_understood(switch: list[str], value: bool) -> None:
    from ser_models.shards.preprocess import PreprocessConfig

    needed = ["--corpus", "ravdess", "--root", "r", "--views", "mfcc", "--output", "o"]
    assert cli.parse(PreprocessConfig, [*needed, *switch]).allow_partial is value


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--protocol.disjoint", "text,script"], {"disjoint": ["text", "script"]}),
        (["--protocol.disjoint=text, script"], {"disjoint": ["text", "script"]}),
        (["--protocol.disjoint", "[text,script]"], {"disjoint": ["text", "script"]}),
        (["--protocol.disjoint", "null"], {"disjoint": None}),
        (["--protocol.leaks", "speaker"], {"leaks": ["speaker"]}),
        (["--protocol.leaks", ""], {"leaks": []}),
        (["--protocol.leaks+=speaker", "--protocol.leaks+=text"], {"leaks": ["speaker", "text"]}),
        (["--protocol.only-folds", "0"], {"only_folds": [0]}),
        (["--protocol.only_folds", "0,2", "--refit"], {"only_folds": [0, 2]}),
    ],
)
def test_lists_need_no_brackets(arguments: list[str], expected: dict[str, object]) -> None:
    protocol = cli.parse(TrainConfig, [*NEEDED, *arguments]).protocol
    assert {name: getattr(protocol, name) for name in expected} == expected


def test_help_explains_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse(TrainConfig, ["--help"], description="Cross-validate.")
    shown = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and "Cross-validate." in shown
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name}" in shown
    assert "Go on with the run of this name where it stopped." in shown
    assert "Epochs between checkpoints; what a killed run loses." in shown


def test_print_config_shows_the_resolved_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parse(TrainConfig, [*NEEDED, "--fold.epochs", "9", "--print_config"])
    assert "epochs: 9" in capsys.readouterr().out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small:
    """A configuration for these tests."""

    runs: list[str]
    """Things to work on."""


@pytest.mark.parametrize(
    ("raised", "status"),
    [(None, 0), (UserError("bad\ninput"), 2), (WorkError("half done"), 1), (KeyboardInterrupt(), 130)],
)
def test_the_exit_status_tells_how_it_ended(
    raised: BaseException | None, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(config: Small) -> None:
        assert config.runs == ["a", "b"]
        if raised:
            raise raised

    with pytest.raises(SystemExit) as stop:
        cli.run(main, Small, description="", positional="runs", argv=["a", "b"])
    assert stop.value.code == status
    assert len(capsys.readouterr().err.splitlines()) == (1 if raised else 0)


def test_a_bug_keeps_its_traceback() -> None:
    def main(config: Small) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(main, Small, description="", positional="runs", argv=["a"])


CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_builds_its_network(path: Path) -> None:
    from ser_models.features.views import parse_specs
    from ser_models.models import build_model, get_system
    from ser_models.training.plan import resolve_preset

    files = [path] if "ablation" not in path.stem else [CONFIGS / "timnet" / "ravdess_clean.yaml", path]
    config = cli.parse(TrainConfig, [word for file in files for word in ("--config", str(file))])
    system = get_system(config.system)
    preset = resolve_preset(system, config).preset
    shapes = {view: parse_specs(view)[0].build().shape for view in preset.views}
    build_model(config.system, num_classes=4, **{**system.sizes(shapes, {}), **preset.model})
