"""What was said, as a speech recogniser hears it: for corpora without transcripts, and for tests of text leaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features import pretrained, speech_models, windows
from ser_models.features.media import LIBRARIES, Waveform
from ser_models.features.speech_models import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

_SEARCH = 5 * SAMPLE_RATE  # a pause is looked for in the last five seconds of Whisper's thirty
_STEP = SAMPLE_RATE // 50


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One string per utterance, [1].

    Networks with a CTC head (``…ForCTC``): the likeliest symbol of each frame, repetitions merged, blanks removed,
    the model's own tokenizer for the rest; no language model. A recording longer than ``window`` goes through the
    network in overlapping windows whose frames are joined before decoding, as in the view ``ssl``.

    Whisper: greedy generation without timestamps or earlier text, temperature 0. A recording longer than 30 s is
    cut at the quietest 20 ms of the last five seconds of each 30, and the parts' texts are joined by a space (our
    choice).

    Equal up to the networks' rounding: a word on the edge between two spellings may fall either way on another
    device. An utterance in which nothing is recognised gives the empty string.

    Raises:
        UserError: an impossible setting; when the model is first looked at, one that cannot be found or used.
    """

    name: ClassVar[str] = "transcript"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, *pretrained.LIBRARIES, "tokenizers")
    dtype: ClassVar[str] = "str"
    encoder: ClassVar[bool] = True
    reads_words: ClassVar[bool] = True

    model: str = ""
    """Folder, or name on the Hugging Face hub, of a Whisper model or of a network with a CTC head."""
    language: str | None = None
    """For Whisper models of many languages: the language, such as ``en``; none lets the model find it."""
    window: float = 30.0
    """Seconds that go through a CTC network in one piece, at most."""
    overlap: float = 4.0
    """Seconds that two windows of a long recording share; from 0.1 to half a window."""
    batch_seconds: float = 120.0
    """Seconds of audio in a batch, padding included; halved where a GPU's memory does not hold it."""

    def __post_init__(self) -> None:
        """Refuse impossible settings, without looking at the model."""
        if not self.model:
            raise UserError(
                "transcript: model must name a folder or a model of the Hugging Face hub, as in "
                "transcript[model=openai/whisper-small]"
            )
        if self.window < 0.2:
            raise UserError(f"transcript: window must be at least 0.2 seconds, got {self.window:g}")
        if not 0.1 <= self.overlap <= self.window / 2:
            raise UserError(
                f"transcript: overlap must lie between 0.1 and half a window ({self.window / 2:g}), "
                f"got {self.overlap:g}"
            )
        if self.batch_seconds <= 0:
            raise UserError(f"transcript: batch_seconds must be above 0, got {self.batch_seconds:g}")

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return SAMPLE_RATE

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result: none."""
        return ()

    @property
    def weights(self) -> str:
        """sha256 that names the model's content, its vocabulary included."""
        return pretrained.identity(self.model)

    @property
    def pretrained_on(self) -> tuple[str, ...]:
        """Corpora of emotional speech that the recogniser is known to have seen."""
        return pretrained.training_corpora(self.model)

    def __call__(self, waveform: Waveform, sample_rate: int) -> Waveform:
        """Prepare a recording, [samples] float32 at 16,000 Hz, for the recogniser.

        Raises:
            ValueError: another sample rate, or not a one-dimensional signal.
            MediaError: shorter than one frame.
        """
        return speech_models.prepare(self.name, self.model, waveform, sample_rate)

    def load(self, device: "torch.device") -> Callable[[Sequence[Waveform]], list[NDArray[np.str_]]]:
        """Load the recogniser.

        Args:
            device: where it computes; in bfloat16 on CUDA, in float32 elsewhere.

        Returns:
            A function of prepared waveforms that gives one string [1] for each, in order.

        Raises:
            UserError: the model cannot be loaded or is no recogniser, or ``language`` does not fit it.
        """
        if speech_models.geometry(self.model).padding == "fixed":
            return self._load_whisper(device)
        return self._load_ctc(device)

    def _load_ctc(self, device: "torch.device") -> Callable[[Sequence[Waveform]], list[NDArray[np.str_]]]:
        import torch

        heads = getattr(pretrained.config(self.model), "architectures", None) or []
        if not any(head.endswith("ForCTC") for head in heads):
            raise UserError(
                f"transcript: {self.model!r} is no speech recogniser: its config.json names "
                f"{', '.join(heads) or 'no head'}; take a model with a CTC head (…ForCTC) or a Whisper model"
            )
        if self.language is not None:
            raise UserError(f"transcript: language is for Whisper models only, got {self.language!r}")
        geometry = speech_models.geometry(self.model)
        symbols = pretrained.tokenizer(self.model)
        network = pretrained.load(self.model, "AutoModelForCTC", device)

        def spelled(likeliest: NDArray[np.int64]) -> str:
            changes = np.flatnonzero(np.diff(likeliest, prepend=-1))
            text: str = symbols.decode(likeliest[changes], skip_special_tokens=True, group_tokens=False)
            return text.strip()

        def forward(batch: Sequence[Waveform]) -> NDArray[Any]:
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, device.type == "cuda"):
                scores = network(**speech_models.inputs(self.model, geometry, batch, device)).logits
            likeliest: NDArray[Any] = scores.argmax(dim=-1).cpu().numpy()
            return likeliest

        def encode(waveforms: Sequence[Waveform]) -> list[NDArray[np.str_]]:
            frames = speech_models.encode_all(
                waveforms,
                geometry,
                forward,
                window=round(self.window * SAMPLE_RATE),
                overlap=round(self.overlap * SAMPLE_RATE),
                budget=round(self.batch_seconds * SAMPLE_RATE),
                pad=device.type != "cpu",
            )
            return [np.array([spelled(likeliest)], dtype=np.str_) for likeliest in frames]

        return encode

    def _load_whisper(self, device: "torch.device") -> Callable[[Sequence[Waveform]], list[NDArray[np.str_]]]:
        import torch

        geometry = speech_models.geometry(self.model)
        longest = speech_models.extractor(self.model).n_samples
        symbols = pretrained.tokenizer(self.model)
        network = pretrained.load(self.model, "AutoModelForSpeechSeq2Seq", device)
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "return_timestamps": False}
        if getattr(network.generation_config, "is_multilingual", False):
            options |= {"language": self._known_language(network.generation_config), "task": "transcribe"}
        elif self.language is not None:
            raise UserError(
                f"transcript: {self.model!r} knows one language only, got language={self.language}"
            )

        def forward(batch: Sequence[Waveform]) -> list[str]:
            precision = torch.autocast("cuda", torch.bfloat16, device.type == "cuda")
            with torch.inference_mode(), precision, pretrained.quiet():
                tensors = speech_models.inputs(self.model, geometry, batch, device)
                found = network.generate(**tensors, **options)
            texts: list[str] = symbols.batch_decode(found, skip_special_tokens=True)
            return texts

        def encode(waveforms: Sequence[Waveform]) -> list[NDArray[np.str_]]:
            parts, owners = [], []
            for row, waveform in enumerate(waveforms):
                for start, stop in windows.between_words(waveform, longest, _SEARCH, _STEP):
                    parts.append(waveform[start:stop])
                    owners.append(row)
            texts: list[list[str]] = [[] for _ in waveforms]
            budget = round(self.batch_seconds * SAMPLE_RATE)
            for batch in windows.batches(
                [speech_models.WHISPER_INPUT] * len(parts), budget, speech_models.LIKENESS
            ):
                found = speech_models.in_memory(forward, [parts[index] for index in batch])
                for index, text in zip(batch, found, strict=True):
                    texts[owners[index]].append(text.strip())
            return [np.array([" ".join(filter(None, said))], dtype=np.str_) for said in texts]

        return encode

    def _known_language(self, generation: Any) -> str | None:
        languages = sorted(token.strip("<|>") for token in getattr(generation, "lang_to_id", None) or {})
        if self.language is not None and self.language not in languages:
            raise UserError(
                f"transcript: language {self.language!r} is none of {self.model!r}; it has {', '.join(languages)}"
            )
        return self.language
