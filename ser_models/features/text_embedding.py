"""Hidden states of a text encoder such as BERT or RoBERTa, per token or per utterance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError, WorkError
from ser_models.features import pretrained, windows
from ser_models.features.speech_models import KINDS, in_memory
from ser_models.features.views import Remarked

if TYPE_CHECKING:
    import torch

_LIKENESS = 0.5  # texts are short: a second batch costs more than some padding

_POSITIONS_AFTER_PADDING = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "longformer",
    "data2vec-text",
    "mpnet",
)
"""Kinds whose position table begins with rows up to the padding's own, which no token uses."""


@dataclass(frozen=True, kw_only=True)
class TextEmbedding:
    """Last hidden state of a text encoder, [tokens, hidden], or [1, hidden] with ``pool``.

    Tokens are the model's own, its special ones (``[CLS]``, ``[SEP]``) included. A text longer than the model's
    positions is cut at its end, with a remark. An empty text consists of the special tokens. Texts are padded to
    the longest of their batch under an attention mask, which agrees with each text alone to 1e-4 of the largest
    value in float32 on a CPU, to float16's rounding beside that, and to bfloat16's on a GPU, which computes in it.

    Any model serves whose ``AutoModel`` takes token ids and gives a last hidden state, unless it also decodes
    (T5, BART).

    Raises:
        UserError: an impossible setting; when the model is first looked at, one that cannot be found or used.
    """

    name: ClassVar[str] = "text_embedding"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "text"
    libraries: ClassVar[tuple[str, ...]] = (*pretrained.LIBRARIES, "tokenizers")
    encoder: ClassVar[bool] = True

    model: str = ""
    """Folder, or name on the Hugging Face hub, of a text encoder."""
    pool: str = "none"
    """none: every token; mean: the mean over all tokens, special ones included; cls: the first token."""
    precision: str = "float16"
    """How the states are stored: float16 or float32."""
    batch_tokens: int = 4096
    """Tokens in a batch, padding included; halved where a GPU's memory does not hold it."""

    def __post_init__(self) -> None:
        """Refuse impossible settings, without looking at the model."""
        if not self.model:
            raise UserError(
                "text_embedding: model must name a folder or a model of the Hugging Face hub, as in "
                "text_embedding[model=FacebookAI/roberta-base]"
            )
        if self.pool not in {"none", "mean", "cls"}:
            raise UserError(f"text_embedding: pool must be none, mean or cls, got {self.pool!r}")
        if self.precision not in {"float16", "float32"}:
            raise UserError(f"text_embedding: precision must be float16 or float32, got {self.precision!r}")
        if self.batch_tokens < 1:
            raise UserError(f"text_embedding: batch_tokens must be at least 1, got {self.batch_tokens}")

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return self.precision

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result: (hidden,)."""
        return (self._config().hidden_size,)

    @property
    def weights(self) -> str:
        """sha256 that names the model's content, its vocabulary included."""
        return pretrained.identity(self.model)

    @property
    def pretrained_on(self) -> tuple[str, ...]:
        """Corpora of emotional speech whose texts the encoder is known to have seen."""
        return pretrained.training_corpora(self.model)

    @property
    def longest(self) -> int | None:
        """Tokens of the longest text that the model reads whole, special ones included; None is any."""
        config, limits = self._config(), [pretrained.tokenizer(self.model).model_max_length]
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and positions > 0:
            unused = config.pad_token_id + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0
            limits.append(positions - unused)
        shortest = int(min(limits))
        return shortest if shortest < 10**9 else None  # transformers writes 1e30 for no limit

    def __call__(self, text: str) -> NDArray[np.int64] | Remarked:
        """Token ids of a text, [tokens] int64, special ones included; with a remark where it was cut.

        Raises:
            UserError: the model cannot be used.
        """
        tokens, longest = pretrained.tokenizer(self.model), self.longest
        ids = np.array(tokens(text)["input_ids"], dtype=np.int64)
        if longest is None or len(ids) <= longest:
            return ids
        cut = np.array(tokens(text, truncation=True, max_length=longest)["input_ids"], dtype=np.int64)
        return Remarked(cut, f"text longer than the encoder's {longest} tokens: cut")

    def load(self, device: "torch.device") -> Callable[[Sequence[NDArray[np.int64]]], list[NDArray[Any]]]:
        """Load the encoder.

        Args:
            device: where it computes; in bfloat16 on CUDA, in float32 elsewhere.

        Returns:
            A function of token ids that gives [tokens, hidden], or [1, hidden] with ``pool``, for each, in order.

        Raises:
            UserError: the model cannot be loaded, or is no text encoder.
        """
        import torch

        self._config()
        filler = pretrained.tokenizer(self.model).pad_token_id
        if filler is None:
            raise UserError(
                f"text_embedding: the tokenizer of {self.model!r} has no padding token; take an encoder such as BERT"
            )
        network, target = pretrained.load(self.model, "AutoModel", device), getattr(torch, self.precision)

        def forward(batch: Sequence[NDArray[np.int64]]) -> list[NDArray[Any]]:
            lengths = [len(ids) for ids in batch]
            ids = np.full((len(batch), max(lengths)), filler, dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, sequence in enumerate(batch):
                ids[row, : len(sequence)] = sequence
                mask[row, : len(sequence)] = 1
            tensors = {"input_ids": ids, "attention_mask": mask}
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, device.type == "cuda"):
                states = network(
                    **{name: torch.from_numpy(values).to(device) for name, values in tensors.items()}
                ).last_hidden_state
            rows = [state[:length].float() for state, length in zip(states, lengths, strict=True)]
            if self.pool == "mean":
                rows = [row.mean(dim=0, keepdim=True) for row in rows]
            elif self.pool == "cls":
                rows = [row[:1] for row in rows]
            return [row.to(target).cpu().numpy() for row in rows]

        def encode(texts: Sequence[NDArray[np.int64]]) -> list[NDArray[Any]]:
            results: dict[int, NDArray[Any]] = {}
            for batch in windows.batches([len(ids) for ids in texts], self.batch_tokens, _LIKENESS):
                states = in_memory(forward, [texts[index] for index in batch])
                results.update(zip(batch, states, strict=True))
            ordered = [results[index] for index in range(len(texts))]
            if not all(np.isfinite(state).all() for state in ordered):
                mend = "; write precision=float32" if self.precision == "float16" else ""
                raise WorkError(
                    f"text_embedding: states of {self.model!r} are not finite {self.precision}{mend}"
                )
            return ordered

        return encode

    def _config(self) -> Any:
        config = pretrained.config(self.model)
        reads_text = config.model_type not in KINDS and not config.is_encoder_decoder
        if not (reads_text and hasattr(config, "vocab_size") and hasattr(config, "hidden_size")):
            raise UserError(
                f"text_embedding: {self.model!r} is of the kind {config.model_type!r}, which is no text encoder; "
                "take one such as BERT, RoBERTa or DeBERTa"
            )
        return config
