"""Hidden states of a self-supervised or speech-recognising encoder: the input of most systems since 2021.

CA-MSER, AMRWC and the benchmarks of SUPERB and EmoBox read wav2vec2, HuBERT, WavLM, data2vec or Whisper this way. The
reference is transformers' own forward pass over one utterance at a time; batches and windows do not change it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError, WorkError
from ser_models.features import pretrained, speech_models
from ser_models.features.media import LIBRARIES, Waveform
from ser_models.features.speech_models import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class SpeechEmbedding:
    """Hidden states of a pre-trained speech encoder, [frames, hidden] or [frames, layers, hidden].

    With the convolutions of wav2vec2 (widths 10, 3, 3, 3, 3, 2, 2, strides 5, 2, 2, 2, 2, 2, 2) a frame sees 400
    samples and the next begins 320 later: 48,000 samples give 149 frames. Whisper's give ceil(samples / 320); the
    frames of the silence with which it fills up 30 s are cut off.

    The input is normalised to zero mean and unit variance over the whole recording where the model's own feature
    extractor says so, before any windowing. Encoders with group normalisation over time (wav2vec2-base, hubert-base)
    and data2vec run only on groups of exactly equal length; so do the others on a CPU, where padding only costs time,
    while on a GPU they are padded under an attention mask. Either way a result agrees with the utterance encoded
    alone: to 1e-4 of the largest value in float32 on a CPU, float16's rounding (1e-3) aside; on a GPU, which
    computes in bfloat16 (8 bits), to the rounding of that.

    A recording longer than ``window`` is encoded in windows that share ``overlap`` seconds; of the shared frames
    each window gives the half farther from its edge. Its frames differ a little from those of the undivided
    recording, since each sees less context: our choice, for bounded memory. SpecAugment, LayerDrop and dropout, which
    belong to training, are off.

    Raises:
        UserError: an impossible setting; when the model is first looked at, one that cannot be found or used.
    """

    name: ClassVar[str] = "ssl"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, *pretrained.LIBRARIES)
    encoder: ClassVar[bool] = True

    model: str = ""
    """Folder, or name on the Hugging Face hub, of a wav2vec2, HuBERT, WavLM, data2vec-audio or Whisper model."""
    layer: int | str = "last"
    """``last``; a number (0 is the input of the first transformer layer, n the output of layer n; the highest is
    ``last``, final normalisation included); or ``weighted``: all of them, from 0 on, for a weighted sum that is
    learned. That takes (layers + 1) times the space: 13 × 768 half-precision values per 20 ms, 1 MB per second of
    speech, for a base model."""
    precision: str = "float16"
    """How the states are stored: float16 or float32."""
    window: float = 30.0
    """Seconds that are encoded in one piece, at most; Whisper's own limit is 30."""
    overlap: float = 4.0
    """Seconds that two windows of a long recording share; from 0.1 to half a window."""
    batch_seconds: float = 120.0
    """Seconds of audio in a batch, padding included; halved where a GPU's memory does not hold it."""
    asr: str = "auto"
    """Whether the encoder was trained to recognise words: true, false, or auto (see `pretrained.recognises_speech`)."""

    def __post_init__(self) -> None:
        """Refuse impossible settings, without looking at the model."""
        if not self.model:
            raise UserError(
                "ssl: model must name a folder or a model of the Hugging Face hub, as in "
                "ssl[model=facebook/wav2vec2-base]"
            )
        if isinstance(self.layer, str) and self.layer not in {"last", "weighted"}:
            raise UserError(f"ssl: layer must be last, weighted or a number, got {self.layer!r}")
        if isinstance(self.layer, int) and self.layer < 0:
            raise UserError(f"ssl: layer must be at least 0, got {self.layer}")
        if self.precision not in {"float16", "float32"}:
            raise UserError(f"ssl: precision must be float16 or float32, got {self.precision!r}")
        if self.window < 0.2:
            raise UserError(f"ssl: window must be at least 0.2 seconds, got {self.window:g}")
        if not 0.1 <= self.overlap <= self.window / 2:
            raise UserError(
                f"ssl: overlap must lie between 0.1 and half a window ({self.window / 2:g}), got {self.overlap:g}"
            )
        if self.batch_seconds <= 0:
            raise UserError(f"ssl: batch_seconds must be above 0, got {self.batch_seconds:g}")
        if self.asr not in {"auto", *_FLAGS}:
            raise UserError(f"ssl: asr must be auto, true or false, got {self.asr!r}")

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return SAMPLE_RATE

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return self.precision

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result: (hidden,), or (layers + 1, hidden) for ``weighted``.

        Raises:
            UserError: the model cannot be used, or has no such layer.
        """
        speech_models.geometry(self.model)
        config = pretrained.config(self.model)
        hidden, layers = config.hidden_size, config.num_hidden_layers
        if isinstance(self.layer, int) and self.layer > layers:
            raise UserError(
                f"ssl: layer must be at most {layers}, the layers of {self.model!r}, got {self.layer}"
            )
        return (layers + 1, hidden) if self.layer == "weighted" else (hidden,)

    @property
    def weights(self) -> str:
        """sha256 that names the model's content."""
        return pretrained.identity(self.model)

    @property
    def reads_words(self) -> bool:
        """Whether the encoder was trained to recognise words."""
        return pretrained.recognises_speech(self.model) if self.asr == "auto" else _FLAGS[self.asr]

    @property
    def pretrained_on(self) -> tuple[str, ...]:
        """Corpora of emotional speech that the encoder is known to have seen."""
        return pretrained.training_corpora(self.model)

    def __call__(self, waveform: Waveform, sample_rate: int) -> Waveform:
        """Prepare a recording for the encoder.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz; must be 16,000.

        Returns:
            [samples] float32, normalised where the model wants it.

        Raises:
            ValueError: another sample rate, or not a one-dimensional signal.
            MediaError: shorter than one frame.
        """
        return speech_models.prepare(self.name, self.model, waveform, sample_rate)

    def load(self, device: "torch.device") -> Callable[[Sequence[Waveform]], list[NDArray[Any]]]:
        """Load the encoder.

        Args:
            device: where it computes; in bfloat16 on CUDA, in float32 elsewhere.

        Returns:
            A function of prepared waveforms that gives their hidden states, [frames, *shape] each, in order.

        Raises:
            UserError: the model cannot be loaded, or has no such layer.
        """
        import torch

        geometry = speech_models.geometry(self.model)
        window = round(self.window * SAMPLE_RATE)
        if geometry.padding == "fixed":
            longest = speech_models.extractor(self.model).n_samples
            if window > longest:
                raise UserError(
                    f"ssl: window must be at most {longest / SAMPLE_RATE:g} seconds for {self.model!r}, "
                    f"got {self.window:g}"
                )
        shape, target = self.shape, getattr(torch, self.precision)
        network = pretrained.load(self.model, "AutoModel", device)
        if geometry.padding == "fixed":
            network = network.get_encoder()

        def forward(batch: Sequence[Waveform]) -> NDArray[Any]:
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, device.type == "cuda"):
                tensors = speech_models.inputs(self.model, geometry, batch, device)
                states = network(**tensors, output_hidden_states=self.layer != "last")
            result: NDArray[Any] = self._chosen(states).to(target).cpu().numpy()
            return result

        def encode(waveforms: Sequence[Waveform]) -> list[NDArray[Any]]:
            results = speech_models.encode_all(
                waveforms,
                geometry,
                forward,
                window=window,
                overlap=round(self.overlap * SAMPLE_RATE),
                budget=round(self.batch_seconds * SAMPLE_RATE),
                pad=device.type != "cpu",
            )
            for result in results:
                self._check(result, shape)
            return results

        return encode

    def _chosen(self, states: Any) -> "torch.Tensor":
        """The wanted layers, [batch, frames, hidden] or [batch, frames, layers + 1, hidden]."""
        import torch

        final: torch.Tensor = states.last_hidden_state
        if self.layer == "last":
            return final
        # Some versions of transformers leave the final normalisation out of the last of the hidden states.
        layers = [*states.hidden_states[:-1], final]
        return torch.stack(layers, dim=2) if isinstance(self.layer, str) else layers[self.layer]

    def _check(self, result: NDArray[Any], shape: tuple[int, ...]) -> None:
        if result.shape[1:] != shape:
            raise WorkError(f"ssl: {self.model!r} gave states {result.shape[1:]} in place of {shape}")
        if np.isfinite(result).all():
            return
        if self.precision == "float16":
            raise UserError(
                f"ssl: states of {self.model!r} exceed float16's range (65,504); write precision=float32"
            )
        raise WorkError(f"ssl: {self.model!r} gave states that are not finite numbers")
