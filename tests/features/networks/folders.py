"""Tiny Hugging Face folders with random weights, as `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SPEECH: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (8, 8, 8), "conv_stride": (5, 4, 4), "conv_kernel": (10, 4, 4), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
NAMES = ("wav2vec2-group", "wav2vec2-layer", "wav2vec2-class", "hubert", "wavlm", "whisper", "ast", "clap", "encodec")
STATES = dict.fromkeys(NAMES, 3) | {"clap": 4, "encodec": 0}


def network_of(name: str) -> tuple[Any, Any]:
    """The network and feature extractor of a name."""
    if name.startswith("wav2vec2"):
        from transformers import (
            Wav2Vec2Config,
            Wav2Vec2FeatureExtractor,
            Wav2Vec2ForSequenceClassification,
            Wav2Vec2Model,
        )

        if name == "wav2vec2-class":
            labels = {0: "cat", 1: "dog", 2: "tree", 3: "yes"}
            about = Wav2Vec2Config(**SPEECH, classifier_proj_size=16, id2label=labels)
            return Wav2Vec2ForSequenceClassification(about), Wav2Vec2FeatureExtractor()
        norm = name.removeprefix("wav2vec2-")
        about = Wav2Vec2Config(**SPEECH, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
        return Wav2Vec2Model(about), Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    if name in ("hubert", "wavlm"):
        from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

        whole = HubertModel(HubertConfig(**SPEECH)) if name == "hubert" else WavLMModel(WavLMConfig(**SPEECH))
        return whole, Wav2Vec2FeatureExtractor()
    if name == "whisper":
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

        about = WhisperConfig(
            d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=60, max_source_positions=100, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
        )  # fmt: skip
        return WhisperForConditionalGeneration(about), WhisperFeatureExtractor(chunk_length=2)
    if name == "ast":
        from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

        about = ASTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_length=128,
            num_mel_bins=64, num_labels=3,
        )  # fmt: skip
        return ASTForAudioClassification(about), ASTFeatureExtractor(max_length=128, num_mel_bins=64)
    if name == "clap":
        from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        audio = {
            "hidden_size": 32, "patch_embeds_hidden_size": 8, "depths": [1, 1, 1], "num_attention_heads": [2, 2, 2],
            "window_size": 4, "spec_size": 128, "num_mel_bins": 32, "num_classes": 3, "enable_fusion": False,
        }  # fmt: skip
        about = ClapConfig(text_config=text | {"vocab_size": 50}, audio_config=audio, projection_dim=16)
        extractor = ClapFeatureExtractor(
            feature_size=32, truncation="rand_trunc", max_length_s=2, sampling_rate=16_000, frequency_max=8000,
            hop_length=160, fft_window_size=512,
        )  # fmt: skip
        return ClapModel(about), extractor
    from transformers import EncodecConfig, EncodecFeatureExtractor, EncodecModel

    about = EncodecConfig(
        num_filters=4, upsampling_ratios=[4, 2], codebook_size=16, codebook_dim=16, hidden_size=16, num_lstm_layers=1,
        target_bandwidths=[12.0], sampling_rate=24_000,
    )  # fmt: skip
    return EncodecModel(about), EncodecFeatureExtractor()


def make_folder(parent: Path, name: str) -> Path:
    """Write the folder of a name."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, extractor = network_of(name)
    network.eval().save_pretrained(parent / name)
    extractor.save_pretrained(parent / name)
    return parent / name
