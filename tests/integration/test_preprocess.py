"""Preprocessing on real Ray: one shard per block, the same bytes always, and nothing lost to a kill."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from faulty_proxy import FaultyProxy

from ser_models import places
from ser_models.corpora import load_corpus
from ser_models.errors import WorkError
from ser_models.features import build_view
from ser_models.features.media import decode
from ser_models.shards import layout, pipeline
from ser_models.shards.pipeline import Job
from ser_models.shards.preprocess import PreprocessConfig, plan, preprocess
from ser_models.shards.store import find_store

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
VIEWS = "mfcc,mfcc[samples=20000]"


def write_corpus(root: Path, utterances: int = 24, seconds: float = 0.6) -> Path:
    """Short noises in RAVDESS's layout, two speakers."""
    generator = np.random.default_rng(0)
    for index in range(utterances):
        speaker, emotion = index % 2 + 1, index // 2 % 8 + 1
        statement, repetition = index // 16 % 2 + 1, index // 32 + 1
        folder = root / f"Actor_{speaker:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"03-01-{emotion:02d}-01-{statement:02d}-{repetition:02d}-{speaker:02d}.wav"
        samples = generator.uniform(-0.5, 0.5, int(16000 * (seconds + 0.01 * index)))
        soundfile.write(folder / name, samples, 16000)
    return root


def contents(folder: str | Path) -> dict[str, bytes]:
    """Every file under a folder with its content."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def configure(root: Path, output: str | Path, **settings: object) -> PreprocessConfig:
    """A run over the small corpus, by default of two views into eight shards."""
    given = {"views": VIEWS, "shards": 8, "allow_partial": True} | settings
    return PreprocessConfig(corpus="ravdess", root=str(root), output=str(output), **given)  # type: ignore[arg-type]


def command(root: Path | str, output: Path | str, *more: str) -> list[str]:
    """The workflow as a user starts it."""
    program = [sys.executable, str(REPOSITORY / "workflows" / "preprocess.py")]
    where = ["--corpus", "ravdess", "--root", str(root), "--output", str(output), "--allow-partial"]
    return [*program, *where, *more]


def environment() -> dict[str, str]:
    """The environment of a process that starts a Ray of its own."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the loop without Ray writes."""
    output = tmp_path_factory.mktemp("undisturbed")
    preprocess(configure(corpus, output, local=True))
    return output


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_writes_what_the_loop_writes(
    ray_cluster: None, corpus: Path, undisturbed: Path, tmp_path: Path, workers: int
) -> None:
    summary = preprocess(configure(corpus, tmp_path, workers=workers))
    assert summary.utterances == 24
    assert contents(tmp_path) == contents(undisturbed)


def test_features_equal_the_view_and_other_programs_read_them(
    ray_cluster: None, corpus: Path, tmp_path: Path
) -> None:
    folder = preprocess(configure(corpus, tmp_path, views="mfcc")).views[0].folder
    view = build_view("mfcc")
    shards = sorted(Path(folder).glob("shard-*.parquet"))
    frame = pandas.concat([pandas.read_parquet(path) for path in shards])
    table = pa.concat_tables([pq.read_table(path) for path in shards])
    assert len(frame) == table.num_rows == 24
    manifest = load_corpus("ravdess", str(corpus), allow_partial=True).to_pylist()
    paths = {row["utterance_id"]: row["audio"] for row in manifest}
    for row in (*frame.to_dict("records"), *table.to_pylist()):
        waveform, media = decode(paths[row["utterance_id"]], target_rate=22050)
        values = np.asarray(row["values"], np.float32).reshape(row["frames"], -1)
        np.testing.assert_array_equal(values, view(waveform, 22050))
        assert row["sha256"] == media.sha256


def test_a_block_is_a_shard(ray_cluster: None, corpus: Path, tmp_path: Path) -> None:
    from ray.data._internal.logical.optimizers import get_execution_plan

    config = configure(corpus, tmp_path)
    targets, manifest, groups = plan(config, load_corpus("ravdess", str(corpus), allow_partial=True))
    for target in targets:
        places.write_bytes(target.uri(layout.UTTERANCES), layout.encode(manifest, groups))
    specs = tuple(str(target.spec) for target in targets)
    jobs = [Job(shard, specs) for shard, rows in enumerate(groups) if rows]
    dataset = pipeline.build_dataset(targets, jobs, workers=None)
    physical, _ = get_execution_plan(dataset._logical_plan)
    operators = []
    operator = physical.dag
    while operator is not None:
        operators.append(operator.name)
        operator = operator.input_dependencies[0] if operator.input_dependencies else None
    # Fused: the features of a shard never leave the task that computed them.
    assert operators == ["MapBatches(compute)->MapBatches(write)", "Input"]
    assert dataset.context.target_max_block_size is None
    batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    blocks = [block["shard"].to_pylist() for block in batches]
    assert sorted(blocks) == [[job.shard] * len(targets) for job in jobs]
    import ray.data

    assert ray.data.DataContext.get_current().target_max_block_size is not None  # nobody else's is touched


def test_unreadable_files_become_rows_with_a_reason(ray_cluster: None, tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", 12)
    first, second = sorted(root.rglob("*.wav"))[:2]
    first.write_bytes(first.read_bytes()[:2000])
    soundfile.write(second, np.full(4000, np.nan, np.float32), 16000, subtype="FLOAT")
    config = configure(root, tmp_path / "out", views="mfcc")
    for _ in range(2):  # a finished run with too many errors fails again
        with pytest.raises(WorkError, match="2 of 12 utterances cannot be read"):
            preprocess(config)
    errors = find_store(config.output, "ravdess", "mfcc").errors().to_pylist()
    assert {Path(row["uri"]).name: row["error"].split(":")[0] for row in errors} == {
        first.name: "cut short",
        second.name: "it holds samples that are not finite numbers",
    }


def test_a_failing_task_is_one_line_and_keeps_the_finished_shards(ray_cluster: None, tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus")
    config = configure(root, tmp_path / "out", views="mfcc", workers=1)
    manifest = load_corpus("ravdess", str(root), allow_partial=True)
    broken = Path(plan(config, manifest)[1]["audio"][-1].as_py())  # in the last shard
    content = broken.read_bytes()
    broken.unlink()
    broken.symlink_to(broken)  # the storage fails, which says nothing of the recording
    with pytest.raises(
        WorkError, match="preprocessing stopped: .*symbolic links.*the same command continues"
    ) as caught:
        preprocess(config, manifest)
    assert "\n" not in str(caught.value)
    kept = {path.name for path in Path(config.output).rglob("shard-*")}
    assert kept
    assert not list(Path(config.output).rglob(layout.MANIFEST))
    broken.unlink()
    broken.write_bytes(content)
    # Another size is another fingerprint: the broken link had none.
    assert preprocess(config, manifest).views[0].info["errors"] == 0


def descendants(parent: int) -> list[int]:
    """Ids of all processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [parent]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_everything(leader: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process group, then whatever it had started outside the group."""
    started = descendants(leader.pid)
    os.killpg(leader.pid, signal.SIGKILL)
    leader.wait(30)
    deadline = time.monotonic() + 20  # Ray's processes end with their driver
    while any(Path(f"/proc/{child}").exists() for child in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    for child in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_killed_and_run_again(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", 64, seconds=8.0)
    settings = ("--views", VIEWS, "--shards", "16", "--workers", "1")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    preprocess(configure(root, whole, shards=16, local=True))
    process = subprocess.Popen(
        command(root, broken, *settings), env=environment(), start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while len(list(broken.rglob("shard-*.parquet"))) < 4 and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    kill_everything(process)
    survivors = {path: path.stat() for path in broken.rglob("shard-*.parquet")}
    assert 4 <= len(survivors) < len(list(whole.rglob("shard-*.parquet")))
    assert not list(broken.rglob(layout.MANIFEST))
    (next(iter(survivors)).parent / ".shard-00000-of-00016.parquet.0badcafe.partial").write_bytes(b"half")
    again = subprocess.run(
        command(root, broken, *settings), env=environment(), capture_output=True, text=True, timeout=120
    )
    assert again.returncode == 0, again.stderr
    assert contents(broken) == contents(whole)
    after = {path: path.stat() for path in survivors}
    assert [(stat.st_ino, stat.st_mtime_ns) for stat in after.values()] == [
        (stat.st_ino, stat.st_mtime_ns) for stat in survivors.values()
    ]
    computed = sum(map(int, re.findall(r"(\d+) of \d+ shards computed now", again.stdout)))
    assert computed == len(list(whole.rglob("shard-*.parquet"))) - len(survivors)
    assert "Traceback" not in again.stderr


def test_the_command_and_its_exit_statuses(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    def run(*arguments: str, root: Path = corpus) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(root, tmp_path / "out", *arguments),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )

    done = run("--views", VIEWS, "--shards", "8", "--local")
    assert done.returncode == 0, done.stderr
    assert "24 rows" in done.stdout and "utterances/s" in done.stdout
    assert contents(tmp_path / "out") == contents(undisturbed)
    nothing = run("--views", VIEWS, "--shards", "8")
    assert nothing.returncode == 0 and "nothing was left to compute" in nothing.stdout
    for arguments, message in {
        ("--views", "mffc"): "no view 'mffc'",
        ("--views", "mfcc", "--shards", "0"): "shards must lie between",
        ("--views", "mfcc", "--shard", "3"): "shard",
    }.items():
        wrong = run(*arguments)
        assert wrong.returncode == 2
        assert message in wrong.stderr and len(wrong.stderr.strip().splitlines()) == 1
    root = write_corpus(tmp_path / "damaged", 6)
    sorted(root.rglob("*.wav"))[0].write_bytes(b"")
    failed = run("--views", "mfcc", "--local", root=root)
    assert failed.returncode == 1
    assert "5 rows" in failed.stdout and "1 of 6 utterances cannot be read" in failed.stderr
    assert run("--views", "mfcc", "--local", "--max-error-fraction", "0.2", root=root).returncode == 0


def test_s3_in_and_out(corpus: Path, undisturbed: Path, s3_bucket: str, tmp_path: Path) -> None:
    for path in corpus.rglob("*.wav"):
        places.write_bytes(f"{s3_bucket}/corpus/{path.relative_to(corpus)}", path.read_bytes())
    arguments = ("--views", VIEWS, "--shards", "8", "--workers", "2")
    for _ in range(2):
        done = subprocess.run(
            command(f"{s3_bucket}/corpus", f"{s3_bucket}/shards", *arguments),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
    assert "nothing was left to compute" in done.stdout
    for spec in ("mfcc", "mfcc[samples=20000]"):
        remote = find_store(f"{s3_bucket}/shards", "ravdess", spec)
        local = find_store(str(undisturbed), "ravdess", spec)
        assert remote.fingerprint == local.fingerprint  # the corpus may lie anywhere
        for ours, theirs in zip(remote.shard_uris, local.shard_uris, strict=True):
            assert places.read_bytes(ours) == places.read_bytes(theirs)
        assert remote.media().equals(local.media())
        table = remote.open(str(tmp_path / "cache"))
        assert sorted(table.ids) == sorted(local.open(str(tmp_path / "other")).ids)
    names = places.list_names(find_store(f"{s3_bucket}/shards", "ravdess", "mfcc").uri)
    assert not [name for name in names if name.endswith(places.PARTIAL_SUFFIX)]


def test_an_overloaded_s3_costs_time_and_nothing_else(
    corpus: Path, undisturbed: Path, s3_endpoint: str, s3_bucket: str, tmp_path: Path
) -> None:
    for path in corpus.rglob("*.wav"):
        places.write_bytes(f"{s3_bucket}/corpus/{path.relative_to(corpus)}", path.read_bytes())
    proxy = FaultyProxy(s3_endpoint, slow_down=10, reset_before=3, reset_after=3)
    try:
        done = subprocess.run(
            command(
                f"{s3_bucket}/corpus",
                f"{s3_bucket}/shards",
                "--views",
                VIEWS,
                "--shards",
                "8",
                "--workers",
                "2",
            ),
            env=environment() | {"AWS_ENDPOINT_URL": proxy.url, "SER_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        proxy.close()
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(count > 0 for count in proxy.spoiled.values()), proxy.spoiled
    for spec in VIEWS.split(","):
        remote = find_store(f"{s3_bucket}/shards", "ravdess", spec)
        local = find_store(str(undisturbed), "ravdess", spec)
        assert remote.info["rows"] == local.info["rows"] and remote.info["errors"] == 0
        assert [places.read_bytes(uri) for uri in remote.shard_uris] == [
            places.read_bytes(uri) for uri in local.shard_uris
        ]
