"""Pre-trained models in a folder or on the Hugging Face hub: found, named by their content, loaded, and known.

A model is a local folder as ``save_pretrained`` writes it, or a name on the hub (``facebook/wav2vec2-base-960h``,
``owner/name@revision``), which is taken from the hub's cache or downloaded there. Only weights are read, as
safetensors where there are any and else through torch's loader for plain tensors; code that comes with a model
never runs.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser_models.errors import UserError

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "transformers")
"""Distributions whose versions decide what an encoder gives."""

_HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+(?:@[\w./-]+)?")
_READ = ("*.json", "*.txt", "*.model")
_SAFE_WEIGHTS, _TORCH_WEIGHTS = "*.safetensors", "pytorch_model*.bin"
_ELSEWHERE = ("*/*", "*.fp32*")  # other formats and precisions of the same weights

_SPEECH_RECOGNISER = re.compile(r"(?:For(?:CTC|SpeechSeq2Seq|ConditionalGeneration))$")
_RECOGNISER_NAME = re.compile(r"(?:^|[^a-z0-9])(?:asr|ctc|stt|[a-z]*(?:10|100|960)h|whisper)(?![a-z0-9])")

_EMOBOX = ("casia", "emodb", "emovo", "iemocap", "meld", "ravdess", "savee")
_KNOWN_TRAINING: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"emotion2vec_plus", ("cmu-mosei", "mead", "msp-podcast", *_EMOBOX)),
    (r"emotion2vec", ("cmu-mosei", "iemocap", "mead", "meld", "msp-podcast")),
    (r"msp-dim|msp-podcast", ("msp-podcast",)),
    (r"superb-er", ("iemocap",)),
    (r"emotion-english-distilroberta", ("meld",)),
    (r"wav2vec2-lg-xlsr-en-speech-emotion-recognition", ("ravdess",)),
    (r"iemocap", ("iemocap",)),
    (r"meld(?![a-z])", ("meld",)),
    (r"ravdess", ("ravdess",)),
)


def folder(model: str) -> Path:
    """The local folder of a model; one of the hub is downloaded on first use.

    Raises:
        UserError: there is no such folder or model, or the hub cannot be reached and its cache has no copy.
    """
    local = Path(model).expanduser()
    if local.is_dir():
        return local.resolve()
    if not _HUB_NAME.fullmatch(model) or model.startswith((".", "/", "~")):
        raise UserError(
            f"model {model!r}: there is no such folder; give a folder that holds config.json and the weights, "
            "or a name on the Hugging Face hub such as facebook/wav2vec2-base-960h"
        )
    return _snapshot(model)


def identity(model: str) -> str:
    """sha256 that names a model's content: of every configuration, vocabulary and weight file that is read.

    A folder and the hub's copy of the same files have the same one. Kept for as long as no file changes.

    Raises:
        UserError: as `folder`, or the folder is not a model.
    """
    place = folder(model)
    _check(model, place)
    paths = sorted({path for pattern in (*_READ, _weights(place)) for path in place.glob(pattern)})
    stats = [path.stat() for path in paths]
    return _digest(tuple((str(path), s.st_size, s.st_mtime_ns) for path, s in zip(paths, stats, strict=True)))


def config(model: str) -> Any:
    """The model's transformers configuration.

    Raises:
        UserError: as `identity`, or transformers does not know this kind of model.
    """
    return _config(folder(model), model)


def load(model: str, auto_class: str, device: "torch.device") -> Any:
    """The model in float32 on a device, for inference: no dropout, no SpecAugment, no gradients.

    Args:
        model: folder or name.
        auto_class: transformers' class that decides the head, such as ``AutoModel`` or ``AutoModelForCTC``.
        device: where it goes.

    Raises:
        UserError: as `config`; a weight is missing, damaged or of the wrong size.
    """
    import torch

    place = folder(model)
    _check(model, place)
    with _readable_faults(model), quiet():
        network, found = getattr(_transformers(), auto_class).from_pretrained(
            place,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=_weights(place) == _SAFE_WEIGHTS,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(name for name in found["missing_keys"] if not _may_be_missing(name))
    if missing:
        raise UserError(
            f"model {model!r} has no weights for {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + f": it is not a complete {type(network).__name__}"
        )
    return network.eval().requires_grad_(False).to(device)


@functools.lru_cache(maxsize=16)
def feature_extractor(model: str) -> Any:
    """The model's own preparation of waveforms (``preprocessor_config.json``).

    Raises:
        UserError: as `config`, or the folder has none: it says whether the input is normalised.
    """
    place = folder(model)
    _check(model, place)
    if not any((place / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise UserError(
            f"model {model!r} has no preprocessor_config.json, which says whether its input is normalised; "
            "copy it from the model that it was made from"
        )
    with _readable_faults(model), quiet():
        return _transformers().AutoFeatureExtractor.from_pretrained(
            place, local_files_only=True, trust_remote_code=False
        )


@functools.lru_cache(maxsize=16)
def tokenizer(model: str) -> Any:
    """The model's own tokenizer.

    Raises:
        UserError: as `config`, or the folder has no vocabulary.
    """
    place = folder(model)
    _check(model, place)
    with _readable_faults(model), quiet():
        return _transformers().AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=False
        )


def recognises_speech(model: str) -> bool:
    """Whether an audio encoder was trained to recognise words, as far as its files and its name tell.

    True for Whisper; where ``architectures`` of the configuration names a recogniser (``Wav2Vec2ForCTC``); and
    where the name has a part that the community gives to recognisers: ``asr``, ``ctc``, ``stt``, or hours of
    transcribed LibriSpeech (``10h``, ``100h``, ``960h``). A recogniser that was trained further for another
    task under another name is not noticed.

    >>> bool(_RECOGNISER_NAME.search("wav2vec2-base-960h")), bool(_RECOGNISER_NAME.search("hubert-base-ls960"))
    (True, False)
    """
    settings = config(model)
    architectures = getattr(settings, "architectures", None) or []
    return (
        settings.model_type == "whisper"
        or any(_SPEECH_RECOGNISER.search(name) for name in architectures)
        or _RECOGNISER_NAME.search(_plain_name(model)) is not None
    )


def training_corpora(model: str) -> tuple[str, ...]:
    """Corpora of emotional speech that a model is known to have been trained on, by its name; sorted.

    Known: emotion2vec was pre-trained on IEMOCAP, MELD, MEAD, CMU-MOSEI and MSP-Podcast (Ma et al. 2023,
    Table 1), its ``plus`` models also fine-tuned on EmoBox's corpora; audeering's ``msp-dim`` models on
    MSP-Podcast; SUPERB's ``superb-er`` models on IEMOCAP; ``emotion-english-distilroberta-base`` on MELD's texts,
    among others; ``wav2vec2-lg-xlsr-en-speech-emotion-recognition`` on RAVDESS; and what names a corpus in its
    own name. Nothing is known of the rest: an empty answer is no proof.

    >>> training_corpora("superb/hubert-large-superb-er")
    ('iemocap',)
    >>> training_corpora("facebook/wav2vec2-base")
    ()
    """
    name = _plain_name(model)
    for pattern, corpora in _KNOWN_TRAINING:
        if re.search(pattern, name):
            return tuple(sorted(corpora))
    return ()


def _plain_name(model: str) -> str:
    """The model's own name in lower case, without owner, folders and revision."""
    return model.partition("@")[0].rstrip("/").rsplit("/", 1)[-1].lower()


@functools.lru_cache(maxsize=64)
def _snapshot(name: str) -> Path:
    """The hub's copy of a model: weights as safetensors, and torch's only where there are no others."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    repository, _, revision = name.partition("@")
    options: dict[str, Any] = {"revision": revision or None, "ignore_patterns": list(_ELSEWHERE)}
    try:
        place = Path(
            huggingface_hub.snapshot_download(repository, allow_patterns=[*_READ, _SAFE_WEIGHTS], **options)
        )
        if not any(place.glob(_SAFE_WEIGHTS)):
            huggingface_hub.snapshot_download(repository, allow_patterns=[_TORCH_WEIGHTS], **options)
    except HFValidationError as error:
        raise UserError(f"model {name!r}: no such folder, and no name on the hub either: {error}") from error
    except OSError as error:
        raise UserError(
            f"model {name!r}: there is no such folder, and the Hugging Face hub did not give it "
            f"({type(error).__name__}: {_first_line(error)}); check the name, or give the folder of a copy"
        ) from error
    return place


def _check(model: str, place: Path) -> None:
    """Refuse a folder that holds no model."""
    if not (place / "config.json").is_file():
        raise UserError(f"model {model!r}: {place} is not a model: it has no config.json")
    if not any(place.glob(_weights(place))):
        raise UserError(f"model {model!r}: {place} has no weights (*.safetensors or pytorch_model.bin)")


def _weights(place: Path) -> str:
    """Which of the two kinds of weight files are read."""
    return _SAFE_WEIGHTS if any(place.glob(_SAFE_WEIGHTS)) else _TORCH_WEIGHTS


@functools.lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """sha256 over the names and contents of files; sizes and times tell when to look again."""
    total = hashlib.sha256()
    for path, _, _ in files:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{Path(path).name}\n{content}\n".encode())
    return total.hexdigest()


@functools.lru_cache(maxsize=64)
def _config(place: Path, model: str) -> Any:
    _check(model, place)
    with _readable_faults(model), quiet():
        return _transformers().AutoConfig.from_pretrained(
            place, local_files_only=True, trust_remote_code=False
        )


def _transformers() -> Any:
    """The package, whose annotations do not hold; imported late because it takes seconds."""
    import transformers

    return transformers


def _may_be_missing(weight: str) -> bool:
    """Weights that play no part here: of pre-training's masking, and of the head that summarises a text."""
    return weight.endswith("masked_spec_embed") or weight.startswith("pooler.")


@contextmanager
def _readable_faults(model: str) -> Iterator[None]:
    """Turn what transformers raises over a model's files into one line."""
    import pickle

    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        raise UserError(f"model {model!r} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and remarks off the console; `load` says itself what is missing."""
    logging: Any = _transformers().utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
