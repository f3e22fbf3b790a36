"""Small networks of the kinds that the views read, saved as real ones are, with weights that are the same everywhere.

Their configurations keep what decides shapes and normalisation (wav2vec2's seven convolutions, Whisper's 30 s); only
widths and depths are small.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers

HIDDEN = 32
SIZES: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] i am so happy sad angry you are not , . ! ##ly ##er the a is it what".split()
SPEECH = ("wav2vec2_group", "wav2vec2_layer", "hubert", "wavlm", "data2vec", "whisper")


def build(kind: str, folder: Path) -> str:
    """Save a model of one of `SPEECH`, ``ctc``, ``bert`` or ``roberta``; returns the folder."""
    makers = {
        "wav2vec2_group": lambda: _wav2vec2(folder, "Wav2Vec2", feat_extract_norm="group"),
        "wav2vec2_layer": lambda: _wav2vec2(
            folder, "Wav2Vec2", feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True
        ),
        "hubert": lambda: _wav2vec2(folder, "Hubert", feat_extract_norm="layer", do_stable_layer_norm=True),
        "wavlm": lambda: _wav2vec2(
            folder, "WavLM", do_normalize=False, feat_extract_norm="layer", do_stable_layer_norm=True
        ),
        "data2vec": lambda: _wav2vec2(
            folder, "Data2VecAudio", num_conv_pos_embeddings=5, conv_pos_kernel_size=5
        ),
        "ctc": lambda: _ctc(folder),
        "whisper": lambda: _whisper(folder),
        "bert": lambda: _bert(folder),
        "roberta": lambda: _roberta(folder),
    }
    makers[kind]()
    return str(folder)


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights from NumPy's generator, whose numbers are the same on every version and machine."""
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for name, weights in sorted(network.named_parameters()):
            numbers = generator.uniform(-1, 1, tuple(weights.shape))
            gain = 2 / weights[0].numel() ** 0.5 if weights.ndim > 1 else 0.1
            norm = weights.ndim == 1 and name.endswith("weight")
            weights.copy_(torch.from_numpy(norm + gain * numbers))
    return network


def _wav2vec2(folder: Path, family: str, do_normalize: bool = True, **settings: Any) -> None:
    config = getattr(transformers, f"{family}Config")(**(SIZES | CONVOLUTIONS | settings))
    fill(getattr(transformers, f"{family}Model")(config)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)


def _ctc(folder: Path) -> None:
    config = transformers.Wav2Vec2Config(
        **SIZES, **CONVOLUTIONS, feat_extract_norm="layer", vocab_size=len(LETTERS), pad_token_id=0
    )
    fill(transformers.Wav2Vec2ForCTC(config)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: number for number, letter in enumerate(LETTERS)}))
    transformers.Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)


def _whisper(folder: Path) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = (
        "endoftext startoftranscript en de translate transcribe startofprev nospeech notimestamps".split()
    )
    numbers = {name: len(letters) + number for number, name in enumerate(specials)}
    config = transformers.WhisperConfig(
        vocab_size=len(letters) + len(specials),
        d_model=HIDDEN,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=20,
        max_target_positions=48,
        decoder_start_token_id=numbers["startoftranscript"],
        pad_token_id=numbers["endoftext"],
        bos_token_id=numbers["endoftext"],
        eos_token_id=numbers["endoftext"],
    )
    network = transformers.WhisperForConditionalGeneration(config)
    fill(network)
    network.generation_config = transformers.GenerationConfig(
        is_multilingual=True,
        lang_to_id={"<|en|>": numbers["en"], "<|de|>": numbers["de"]},
        task_to_id={"translate": numbers["translate"], "transcribe": numbers["transcribe"]},
        no_timestamps_token_id=numbers["notimestamps"],
        decoder_start_token_id=numbers["startoftranscript"],
        pad_token_id=numbers["endoftext"],
        eos_token_id=numbers["endoftext"],
        suppress_tokens=[numbers[name] for name in specials if name != "endoftext"],
        max_length=24,
    )
    network.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=20).save_pretrained(folder)
    transformers.WhisperTokenizer(
        {letter: number for number, letter in enumerate(letters)}
        | {f"<|{n}|>": i for n, i in numbers.items()},
        [],
        additional_special_tokens=[f"<|{name}|>" for name in specials],
    ).save_pretrained(folder)


def _bert(folder: Path) -> None:
    config = transformers.BertConfig(**SIZES, vocab_size=len(WORDS), max_position_embeddings=24)
    fill(transformers.BertModel(config)).save_pretrained(folder)
    transformers.BertTokenizer({word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)


def _roberta(folder: Path) -> None:
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    config = transformers.RobertaConfig(
        **SIZES, vocab_size=len(letters), max_position_embeddings=40, pad_token_id=1
    )
    fill(transformers.RobertaForMaskedLM(config)).save_pretrained(folder)
    transformers.RobertaTokenizer(
        {letter: number for number, letter in enumerate(letters)}, []
    ).save_pretrained(folder)


def speech(samples: int, pitch: float = 140.0) -> np.ndarray:
    """A gliding, pulsating tone with overtones, [samples] float32 at 16 kHz, the same everywhere."""
    time = np.arange(samples) / 16000
    phase = 2 * np.pi * (pitch * time + 8 * np.sin(2.1 * time))
    wave = sum(np.sin(number * phase) / number for number in range(1, 6))
    return (0.2 * wave * (1 + 0.8 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)
