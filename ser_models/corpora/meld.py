"""MELD: dialogues of the television series Friends, in official splits (Poria et al., 2019, ACL, P19-1050).

The labels stand in ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv``; each line is one
utterance, cut out as one clip ``dia{D}_utt{U}.mp4``. Dialogue numbers start anew in each split, so ids carry
its name: ``train_dia0_utt3``. Clips lie in a folder named after the split, at any depth:

=====  ==============================
split  folder
=====  ==============================
train  ``train_splits``
dev    ``dev_splits_complete``
test   ``output_repeated_splits_test``
=====  ==============================

A ``.wav`` or ``.flac`` file of the same name below that folder is taken for the sound instead of the clip's own.
The annotations alone are a corpus too, of text. What the official distribution lacks, adds or cuts wrongly is
listed here by name (`LOST_CLIPS`, `SURPLUS_CLIPS`, `LONG_CLIPS`) and remarked on; everything else is a problem.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath

from ser_models.corpora.listing import Listing
from ser_models.corpora.parser import Corpus, Counts, Findings, Problem
from ser_models.corpora.text import read_text
from ser_models.corpora.utterance import Utterance, shorten

NAME = "meld"
FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
"""Official split to the folder of its clips."""

EMOTIONS = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "joy": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprised",
}
"""MELD's emotions to canonical ones."""

LOST_CLIPS = ("train_dia125_utt3", "dev_dia110_utt7")
"""Utterances whose clip is damaged or absent in the official distribution."""

SURPLUS_CLIPS = ("dev_dia49_utt4", "dev_dia49_utt5", "dev_dia66_utt9", "dev_dia66_utt10")
"""Clips of the official distribution without a line in its annotations."""

LONG_CLIPS = ("train_dia309_utt0", "test_dia38_utt4", "test_dia220_utt0")
"""Utterances whose annotated times, and so whose clips, are far longer than what is said (41 to 305 s)."""

_COLUMNS = (
    "Utterance",
    "Speaker",
    "Emotion",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
)
_NUMBERS = ("Dialogue_ID", "Utterance_ID", "Season", "Episode")
_TIMES = ("StartTime", "EndTime")
_NUMBER = re.compile(r"[0-9]{1,6}")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2}):([0-9]{2},[0-9]{2,3})")
_CLIP = re.compile(r"dia(\d+)_utt(\d+)")
_OLD_TEST_CLIP = "final_videos_test"  # the test folder holds an earlier cut of some clips, so named
_SOUND = (".wav", ".flac")
_VIDEO = (".mp4",)


def parse(files: Listing) -> Findings:
    """Read the annotations of all splits under a folder and find the clips that belong to them."""
    findings = Findings([], [], [])
    lines = _read_annotations(files, findings)
    sound, video = (_find_clips(files, suffixes, findings) for suffixes in (_SOUND, _VIDEO))
    order = _order(lines)
    for name, line in lines.items():
        audio, pictures = (
            files.uri(path) if path else None
            for path in (sound.get(name) or video.get(name), video.get(name))
        )
        findings.rows.append(_row(name, line, order[name], audio, pictures))
    if sound or video:
        _check_clips(files, lines, sound, video, findings)
    elif lines:
        findings.notes.append("annotations only: no clip of any utterance is there")
    _note_others(files, findings)
    return findings


def _read_annotations(files: Listing, findings: Findings) -> dict[str, dict[str, str]]:
    """The lines of all annotation files by utterance id."""
    lines: dict[str, dict[str, str]] = {}
    taken: dict[str, str] = {}
    for path in files.paths:
        if not (split := _annotated_split(path)):
            continue
        uri = files.uri(path)
        if (first := taken.setdefault(split, path)) != path:
            findings.problems.append(Problem(uri, f"duplicate of the {split} split: {first} is taken"))
            continue
        text, remark = read_text(uri)
        findings.notes.extend([remark] if remark else [])
        for place, line, fault in _read_lines(text):
            if line:
                name = f"{split}_dia{int(line['Dialogue_ID'])}_utt{int(line['Utterance_ID'])}"
                if lines.setdefault(name, line) is not line:
                    fault = f"duplicate of {name}: the first line is taken"
            if fault:
                findings.problems.append(Problem(uri, f"{place}: {fault}"))
    return lines


def _annotated_split(path: str) -> str | None:
    """The split that an annotation file describes; None for other files."""
    name = PurePosixPath(path).name
    return next((split for split in FOLDERS if name == f"{split}_sent_emo.csv"), None)


def _read_lines(text: str) -> Iterator[tuple[str, dict[str, str] | None, str | None]]:
    """Yield where a line stands, its fields if it is certain which utterance it is, and what is wrong with it."""
    # Strict, because a missing quotation mark would otherwise swallow the next line into the text.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        fault = None
        values: list[str] = []
        try:
            values = [
                value.strip(" ") for value in next(reader)
            ]  # U+0085 is white space too, and has a meaning
        except StopIteration:
            break
        except csv.Error as error:
            fault = str(error)
        place = f"line {first}" if reader.line_num <= first else f"lines {first} to {reader.line_num}"
        if fault:
            yield place, None, fault
        elif header is None:
            header = values
            if missing := [name for name in _COLUMNS if name not in header]:
                yield place, None, f"no column {', '.join(missing)} (found: {', '.join(header)})"
                return
        elif values:
            yield place, *_read_fields(header, values)
    if header is None:
        yield "line 1", None, "no header: the file is empty or no table"


def _read_fields(header: list[str], values: list[str]) -> tuple[dict[str, str] | None, str | None]:
    if len(values) != len(header):
        return None, f"{len(values)} of {len(header)} fields: {','.join(values)[:60]!r}"
    fields = dict(zip(header, values, strict=True))
    if wrong := [f"{name} {fields[name]!r}" for name in _NUMBERS if not _NUMBER.fullmatch(fields[name])]:
        return None, f"not a number: {', '.join(wrong)}"
    faults = [f"not a time: {name} {fields[name]!r}" for name in _TIMES if not _TIME.fullmatch(fields[name])]
    if not fields["Speaker"]:
        faults.append("no speaker")
    if fields["Emotion"] not in EMOTIONS:
        faults.append(f"unknown emotion {fields['Emotion']!r} (known: {', '.join(EMOTIONS)})")
    return fields, "; ".join(faults) or None


def _find_clips(files: Listing, suffixes: tuple[str, ...], findings: Findings) -> dict[str, str]:
    """The paths of the clips with one of the suffixes, by utterance id."""
    found: dict[str, str] = {}
    for path in files.paths:
        file = PurePosixPath(path)
        clip = _CLIP.fullmatch(file.stem)
        split = _split_of(file)
        if clip and split and file.suffix.lower() in suffixes:
            name = f"{split}_dia{int(clip[1])}_utt{int(clip[2])}"
            if (first := found.setdefault(name, path)) != path:
                findings.problems.append(Problem(files.uri(path), f"duplicate of {name}: {first} is taken"))
    return found


def _is_clip(file: PurePosixPath) -> bool:
    return bool(_CLIP.fullmatch(file.stem) and _split_of(file))


def _split_of(file: PurePosixPath) -> str | None:
    """The split whose folder a file lies in; None where it lies in none."""
    split_of = {folder: split for split, folder in FOLDERS.items()}
    return next((split_of[part] for part in reversed(file.parent.parts) if part in split_of), None)


def _order(lines: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """The position of each utterance in its dialogue."""
    dialogues: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name, line in lines.items():
        dialogues[_dialogue(name)].append((int(line["Utterance_ID"]), name))
    return {name: turn for turns in dialogues.values() for turn, (_, name) in enumerate(sorted(turns))}


def _dialogue(name: str) -> str:
    return name.rpartition("_")[0]


def _row(name: str, line: Mapping[str, str], turn: int, audio: str | None, video: str | None) -> Utterance:
    return Utterance(
        utterance_id=name,
        corpus=NAME,
        speaker=_clean(line["Speaker"]) or None,
        session=f"s{int(line['Season']):02d}e{int(line['Episode']):02d}",
        dialogue=_dialogue(name),
        turn=turn,
        scenario="scripted",
        audio=audio,
        video=video,
        text=_clean(line["Utterance"]) or None,
        language="en",
        emotion=EMOTIONS.get(line["Emotion"]),
        split=name.partition("_")[0],
    )


def _clean(text: str) -> str:
    r"""Give control characters that stand for Windows-1252 ones their meaning; strip white space.

    >>> _clean(" It\x92s ")
    'It’s'
    """
    meant = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}
    return text.translate({code: character for code, character in meant.items() if character}).strip()


def _check_clips(
    files: Listing,
    lines: Mapping[str, Mapping[str, str]],
    sound: Mapping[str, str],
    video: Mapping[str, str],
    findings: Findings,
) -> None:
    """Compare the clips with the annotations."""
    there = {*sound, *video}
    for split, folder in FOLDERS.items():
        names = [name for name in lines if name.startswith(f"{split}_")]
        missing = [name for name in names if name not in there]
        if names and len(missing) == len(names):
            uri = files.uri(folder)
            reason = f"no clip of the {split} split: {len(names)} utterances are without sound"
            findings.problems.append(Problem(uri, reason))
            continue
        for name in missing:
            if name not in LOST_CLIPS:
                uri = files.uri(f"{folder}/{name.removeprefix(f'{split}_')}.mp4")
                findings.problems.append(Problem(uri, f"no clip of {name}"))
        if lost := [name for name in missing if name in LOST_CLIPS]:
            findings.notes.append(f"no clip, as in the official distribution: {', '.join(lost)}")
    if unseen := sum(name in sound and name not in video for name in lines):
        findings.notes.append(f"{unseen} utterances have sound but no pictures")
    if long := [
        f"{name} ({_annotated_seconds(lines[name])})" for name in LONG_CLIPS if name in there & set(lines)
    ]:
        findings.notes.append(f"clips far longer than what is said, kept as they are: {', '.join(long)}")
    _note_surplus(there.difference(lines), findings)


def _annotated_seconds(line: Mapping[str, str]) -> str:
    """How long the annotation says that an utterance is."""
    times = [_TIME.fullmatch(line[name]) for name in _TIMES]
    start, end = (
        int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3].replace(",", ".")) if time else math.nan
        for time in times
    )
    return "times unknown" if math.isnan(end - start) else f"annotated with {end - start:.1f} s"


def _note_surplus(names: Collection[str], findings: Findings) -> None:
    if known := [name for name in SURPLUS_CLIPS if name in names]:
        findings.notes.append(
            f"clips without annotation left out, as known of the official distribution: {', '.join(known)}"
        )
    if unknown := sorted(set(names).difference(SURPLUS_CLIPS)):
        findings.notes.append(f"{len(unknown)} clips without annotation left out: {shorten(unknown)}")


def _note_others(files: Listing, findings: Findings) -> None:
    """Count what is neither an annotation file nor a clip of a split."""
    rest = [PurePosixPath(path) for path in files.paths if not _annotated_split(path)]
    media = [file for file in rest if file.suffix.lower() in (*_SOUND, *_VIDEO)]
    old = [file for file in media if file.stem.startswith(_OLD_TEST_CLIP)]
    unknown = [str(file) for file in media if not file.stem.startswith(_OLD_TEST_CLIP) and not _is_clip(file)]
    if old:
        findings.notes.append(
            f"{len(old)} clips {_OLD_TEST_CLIP}* left out, as known of the official distribution"
        )
    if unknown:
        findings.notes.append(
            f"{len(unknown)} recordings left out that are not dia*_utt* below one of "
            f"{', '.join(FOLDERS.values())}: {shorten(unknown)}"
        )
    if others := len(rest) - len(media):
        findings.notes.append(f"{others} files of other kinds ignored")


# Counted in the annotation files of https://github.com/declare-lab/MELD.
_COUNTS = {
    "train": (1109, 271, 268, 1743, 4710, 683, 1205),
    "dev": (153, 22, 40, 163, 470, 111, 150),
    "test": (345, 68, 50, 402, 1256, 208, 281),
}

CORPUS = Corpus(
    name=NAME,
    parse=parse,
    published=Counts(
        total=13708,
        columns={
            "split": {split: sum(counts) for split, counts in _COUNTS.items()},
            "emotion": dict(
                zip(EMOTIONS.values(), map(sum, zip(*_COUNTS.values(), strict=True)), strict=True)
            ),
            "split/emotion": {
                f"{split}/{emotion}": count
                for split, counts in _COUNTS.items()
                for emotion, count in zip(EMOTIONS.values(), counts, strict=True)
            },
        },
    ),
    looks_for="train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv and clips like train_splits/dia0_utt0.mp4",
    damaged=frozenset(LOST_CLIPS),
    where="https://affective-meld.github.io",
)
