"""From the utterances of one shard to what every view makes of them: decoded once, computed for all.

Audio is decoded once per utterance for all views that hear, a video file is opened once per shard for all utterances
that it shows and all views that see. What an utterance cannot give becomes an error of the views that needed it, never
of the others.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ser_models.features.media import MediaError, read
from ser_models.features.twins import envelope
from ser_models.features.views import AudioView, Remarked, VideoView, View, is_encoder, parse_specs
from ser_models.shards import layout
from ser_models.shards.copies import alter

Array = np.ndarray[Any, Any]


@dataclass
class Output:
    """What a view made of an utterance, or why it could not.

    Attributes:
        array: [frames, …], or what an encoder is to read; None where there is an error.
        error: for a person.
        remark: something worth counting that happened on the way.
    """

    array: Array | None = None
    error: str | None = None
    remark: str | None = None


@functools.lru_cache(maxsize=64)
def built(spec: str) -> View:
    """The view of a spec, one per process."""
    return parse_specs(spec)[0].build()


def compute_shard(
    utterances: Sequence[Mapping[str, Any]], specs: Sequence[str], altered_by: str | None = None
) -> pa.Table:
    """Compute the views of one shard.

    Args:
        utterances: rows of the manifest.
        specs: the views that lack the shard.
        altered_by: how the sound of copies is made, see `ser_models.shards.copies`; None where there are none.

    Returns:
        One row per utterance: ``utterance_id``, what decoding found, and per view the columns of `columns_of`.
    """
    views = {spec: built(spec) for spec in specs}
    outputs: dict[str, list[Output]] = {spec: [Output() for _ in utterances] for spec in specs}
    media: list[dict[str, Any]] = [{} for _ in utterances]
    hearing = {spec: cast(AudioView, view) for spec, view in views.items() if view.source == "audio"}
    seeing = {spec: cast(VideoView, view) for spec, view in views.items() if view.source == "video"}
    for row, utterance in enumerate(utterances):
        if hearing:
            media[row] = _hear(
                utterance, altered_by, {spec: (view, outputs[spec][row]) for spec, view in hearing.items()}
            )
        for spec, view in views.items():
            if view.source == "text":
                _read(utterance, view, outputs[spec][row])
    if seeing:
        _see(utterances, {spec: (view, outputs[spec]) for spec, view in seeing.items()})
    columns: dict[str, pa.Array] = {
        field.name: pa.array([found.get(field.name) for found in media], field.type)
        for field in layout.MEDIA_SCHEMA
    }
    columns["utterance_id"] = pa.array([utterance["utterance_id"] for utterance in utterances], pa.string())
    for spec, view in views.items():
        columns[f"uri {spec}"] = pa.array([_place(utterance, view) for utterance in utterances], pa.string())
        columns |= columns_of(spec, view, outputs[spec], prepared=is_encoder(view))
    return pa.table(columns)


def columns_of(spec: str, view: View, outputs: Sequence[Output], *, prepared: bool) -> dict[str, pa.Array]:
    """The columns of one view: values and frames (or what its encoder is to read), error and remark."""
    arrays = [output.array for output in outputs]
    columns: dict[str, pa.Array] = {
        f"error {spec}": pa.array([output.error for output in outputs], pa.string()),
        f"remark {spec}": pa.array([output.remark for output in outputs], pa.string()),
    }
    if prepared:
        # What travels to an encoder has its own type and shape, which only the encoder's process reads.
        columns[f"prepared {spec}"] = pa.array([_packed(array) for array in arrays], pa.large_binary())
        return columns
    empty = np.empty(0, layout.numpy_dtype(view.dtype))
    flat = [empty if array is None else array for array in arrays]
    columns[f"values {spec}"] = layout.list_column(flat, view.dtype)
    frames = [None if array is None else len(array) for array in arrays]
    columns[f"frames {spec}"] = pa.array(frames, pa.int32())
    return columns


def encode_shard(block: pa.Table, spec: str, encode: Callable[[list[Array]], list[Array]]) -> pa.Table:
    """Replace what an encoder reads by what it gives.

    Args:
        block: as `compute_shard` returns it.
        spec: of the encoder's view.
        encode: arrays to arrays, in order.

    Raises:
        ValueError: the encoder gave another number of results than it was asked for.
    """
    name = f"prepared {spec}"
    if name not in block.column_names:
        return block
    packed = block[name].to_pylist()
    there = [row for row, content in enumerate(packed) if content is not None]
    encoded = encode([_unpacked(packed[row]) for row in there])
    if len(encoded) != len(there):
        raise ValueError(f"{spec} was given {len(there)} utterances and returned {len(encoded)}")
    results = dict(zip(there, encoded, strict=True))
    notes = zip(block[f"error {spec}"].to_pylist(), block[f"remark {spec}"].to_pylist(), strict=True)
    outputs = [Output(results.get(row), error, remark) for row, (error, remark) in enumerate(notes)]
    columns = columns_of(spec, built(spec), outputs, prepared=False)
    kept = block.drop_columns([name, f"error {spec}", f"remark {spec}"])
    for column, values in columns.items():
        kept = kept.append_column(column, values)
    return kept


def _hear(
    utterance: Mapping[str, Any], altered_by: str | None, views: Mapping[str, tuple[AudioView, Output]]
) -> dict[str, Any]:
    """Decode one recording for all views that hear; what was found in the file, or nothing."""
    try:
        if utterance["audio"] is None:
            raise MediaError("the corpus names no audio file for it")
        recording = read(utterance["audio"], utterance["start"], utterance["end"])
    except MediaError as error:
        for _, output in views.values():
            output.error = str(error)
        return {}
    waveforms = {rate: recording.at(rate) for rate in {view.sample_rate for view, _ in views.values()}}
    if altered_by is not None and utterance["parent"] is not None:
        waveforms = {
            rate: alter(waveform, rate, utterance["parent"], utterance["utterance_id"], altered_by)
            for rate, waveform in waveforms.items()
        }
    for view, output in views.values():
        _call(view, output, waveforms[view.sample_rate], view.sample_rate)
    found = recording.media
    return {
        "sha256": found.sha256,
        "duration": found.duration,
        "sample_rate": found.sample_rate,
        "channels": found.channels,
        "envelope": envelope(recording.samples, found.sample_rate),
    }


def _read(utterance: Mapping[str, Any], view: View, output: Output) -> None:
    if utterance["text"] is None:
        output.error = "the corpus has no transcript of it"
    else:
        _call(view, output, utterance["text"])


def _see(
    utterances: Sequence[Mapping[str, Any]], views: Mapping[str, tuple[VideoView, list[Output]]]
) -> None:
    """Open each video file once for all utterances that it shows and all views that see."""
    from ser_models.features.video import Wanted, read_pictures

    shown: dict[str, list[int]] = defaultdict(list)
    for row, utterance in enumerate(utterances):
        if utterance["video"] is None:
            for _, outputs in views.values():
                outputs[row].error = "the corpus names no video file for it"
        else:
            shown[utterance["video"]].append(row)
    for uri, rows in shown.items():
        asked, wanted = [], []
        for row in rows:
            utterance = utterances[row]
            start, end, region = (utterance[name] for name in ("video_start", "video_end", "video_region"))
            try:
                duration = (_whole(uri) if end is None else end) - (start or 0.0)
            except MediaError as error:
                for _, outputs in views.values():
                    outputs[row].error = str(error)
                continue
            for view, outputs in views.values():
                asked.append((view, outputs[row]))
                wanted.append(Wanted(times=view.times(duration), start=start, end=end, region=region))
        for position, pictures in read_pictures(uri, wanted):
            view, output = asked[position]
            if isinstance(pictures, MediaError):
                output.error = str(pictures)
            else:
                _call(view, output, pictures)


@functools.lru_cache(maxsize=1)
def _whole(uri: str) -> float:
    """Seconds of a video file, for the utterances that are the whole of it."""
    from ser_models.features.video import read_duration

    return read_duration(uri)


def _place(utterance: Mapping[str, Any], view: View) -> str | None:
    """Where a view reads an utterance, for the table of errors."""
    if view.source == "text":
        return f"transcript of {utterance['utterance_id']}"
    return cast(str | None, utterance[view.source])


def _call(view: View, output: Output, *given: Any) -> None:
    try:
        result = cast(Any, view)(*given)
    except MediaError as error:
        output.error = str(error)
        return
    if isinstance(result, Remarked):
        output.array, output.remark = result
    else:
        output.array = result


def _packed(array: Array | None) -> bytes | None:
    """An array with its type and shape as one value."""
    if array is None:
        return None
    if array.dtype.kind in "OU":
        return b"text\n" + json.dumps(array.tolist()).encode()
    head = json.dumps([array.dtype.str, list(array.shape)]).encode()
    return head + b"\n" + np.ascontiguousarray(array).tobytes()


def _unpacked(content: bytes) -> Array:
    head, _, body = content.partition(b"\n")
    if head == b"text":
        return np.array(json.loads(body), dtype=object)
    dtype, shape = json.loads(head)
    return np.frombuffer(body, dtype=dtype).reshape(shape)
