"""Models that hear and speak."""

import transformers as t

from .caches import answerer
from .case import Export, lively, normal, padded, tokens

WHISPER = t.WhisperConfig(
    vocab_size=100,
    num_mel_bins=8,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    max_source_positions=20,
    max_target_positions=40,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    decoder_start_token_id=1,
)


def whisper_encoder() -> Export:
    """Half a minute is a number here as it is there: 40 frames, always."""

    def call(model, features):
        return model.model.encoder(features).last_hidden_state

    inputs = {"features": normal("batch", 8, 40)}
    sizes = [{"batch": 2}, {"batch": 1}, {"batch": 5}]
    return Export(call, lively(t.WhisperForConditionalGeneration(WHISPER)), inputs, sizes)


def whisper_decoder() -> Export:
    return answerer(t.WhisperForConditionalGeneration(WHISPER), 32, 2, 4, 8)


CONVS = {
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
SMALL = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
WAVES = [{"batch": 2, "samples": 400}, {"batch": 1, "samples": 211}, {"batch": 3, "samples": 997}]


def of_waves(config: type, model: type, sizes=WAVES, opset: int = 20, script=False, **options):
    """What makes the export of a model that labels frames of a wave."""

    def call(model, wave):
        return model(wave).logits

    def make() -> Export:
        made = lively(model(config(**options)))
        return Export(call, made, {"wave": normal("batch", "samples")}, sizes, opset, script)

    return make


def wav2vec2_masked() -> Export:
    """Padded waves: the mask is shortened to that of frames."""

    def call(model, wave, mask):
        return model(wave, attention_mask=mask).logits

    config = t.Wav2Vec2Config(**SMALL, **CONVS, feat_extract_norm="layer")
    inputs = {"wave": normal("batch", "samples"), "mask": padded("batch", "samples")}
    return Export(call, lively(t.Wav2Vec2ForCTC(config)), inputs, WAVES)


def encodec() -> Export:
    def call(model, wave):
        out = model(wave)
        return out.audio_codes, out.audio_values

    config = t.EncodecConfig(
        num_filters=4,
        upsampling_ratios=[4, 2],
        codebook_size=32,
        codebook_dim=16,
        hidden_size=16,
        sampling_rate=240,
        target_bandwidths=[0.3],
        num_lstm_layers=1,
    )
    sizes = [{"batch": 2, "samples": 80}, {"batch": 1, "samples": 40}, {"batch": 3, "samples": 96}]
    inputs = {"wave": normal("batch", 1, "samples")}
    return Export(call, lively(t.EncodecModel(config)), inputs, sizes, opset=17, script=True)


def dac() -> Export:
    def call(model, wave):
        out = model(wave)
        return out.audio_codes, out.audio_values

    config = t.DacConfig(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4],
        decoder_hidden_size=16,
        upsampling_ratios=[4, 2],
        n_codebooks=2,
        codebook_size=32,
        codebook_dim=4,
    )
    sizes = [{"batch": 2, "samples": 80}, {"batch": 1, "samples": 48}, {"batch": 3, "samples": 96}]
    return Export(call, lively(t.DacModel(config)), {"wave": normal("batch", 1, "samples")}, sizes)


def conformer() -> Export:
    """Relative positions, convolutions, gates."""
    config = t.Wav2Vec2ConformerConfig(
        **SMALL,
        **CONVS,
        position_embeddings_type="relative",
        conv_depthwise_kernel_size=5,
        max_source_positions=100,
    )

    def call(model, wave):
        return model(wave).logits

    model = lively(t.Wav2Vec2ConformerForCTC(config))
    return Export(call, model, {"wave": normal("batch", "samples")}, WAVES)


def wav2vec2_bert() -> Export:
    """As Seamless hears: filter banks, causal convolutions, keys by their distance."""
    config = t.Wav2Vec2BertConfig(
        **SMALL,
        feature_projection_input_dim=12,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=5,
        right_max_position_embeddings=3,
        conv_depthwise_kernel_size=5,
        add_adapter=True,
        adapter_kernel_size=3,
        adapter_stride=2,
        num_adapter_layers=1,
        output_hidden_size=32,
    )

    def call(model, features, mask):
        return model(features, attention_mask=mask).logits

    inputs = {"features": normal("batch", "frames", 12), "mask": padded("batch", "frames")}
    sizes = [{"batch": 2, "frames": 10}, {"batch": 1, "frames": 3}, {"batch": 3, "frames": 17}]
    return Export(call, lively(t.Wav2Vec2BertForCTC(config)), inputs, sizes)


def ast() -> Export:
    """A spectrogram as patches; its size is the model's."""
    config = t.ASTConfig(
        **{k: v for k, v in SMALL.items() if k != "vocab_size"},
        patch_size=4,
        max_length=32,
        num_mel_bins=8,
        frequency_stride=3,
        time_stride=3,
        num_labels=7,
    )

    def call(model, spectrogram):
        return model(spectrogram).logits

    model = lively(t.ASTForAudioClassification(config))
    sizes = [{"batch": 2}, {"batch": 1}, {"batch": 5}]
    return Export(call, model, {"spectrogram": normal("batch", 32, 8)}, sizes, opset=18)


def clap() -> Export:
    config = t.ClapAudioConfig(
        spec_size=32,
        num_mel_bins=16,
        hidden_size=16,
        patch_size=4,
        patch_stride=[4, 4],
        patch_embeds_hidden_size=8,
        depths=[1, 1],
        num_attention_heads=[2, 4],
        window_size=4,
        num_classes=5,
        enable_fusion=False,
        projection_dim=16,
    )

    def call(model, features):
        return model(input_features=features, is_longer=None).audio_embeds

    model = lively(t.ClapAudioModelWithProjection(config))
    sizes = [{"batch": 2}, {"batch": 1}, {"batch": 5}]
    return Export(call, model, {"features": normal("batch", 1, 64, 16)}, sizes)


def vits() -> Export:
    """Text to a wave whose length the model decides; durations are data."""
    config = t.VitsConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=20,
        use_stochastic_duration_prediction=False,
        duration_predictor_filter_channels=16,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        upsample_initial_channel=16,
        upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        noise_scale=0.0,
        noise_scale_duration=0.0,
    )

    def call(model, input_ids, attention_mask):
        return model(input_ids, attention_mask=attention_mask).waveform

    inputs = {
        "input_ids": tokens("batch", "seq", below=30),
        "attention_mask": padded("batch", "seq"),
    }
    sizes = [{"batch": 2, "seq": 7}, {"batch": 1, "seq": 5}, {"batch": 3, "seq": 11}]
    return Export(call, lively(t.VitsModel(config)), inputs, sizes)


def hifigan() -> Export:
    config = t.SpeechT5HifiGanConfig(
        model_in_dim=8,
        upsample_initial_channel=16,
        upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3, 5],
        resblock_dilation_sizes=[[1, 3], [1, 2]],
    )

    def call(model, spectrogram):
        return model(spectrogram)

    sizes = [{"batch": 2, "frames": 5}, {"batch": 1, "frames": 1}, {"batch": 3, "frames": 13}]
    inputs = {"spectrogram": normal("batch", "frames", 8)}
    return Export(call, lively(t.SpeechT5HifiGan(config)), inputs, sizes)


def musicgen() -> Export:
    """The decoder: four streams of codes, embedded and predicted together."""
    config = t.MusicgenDecoderConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        num_codebooks=4,
        max_position_embeddings=64,
        pad_token_id=50,
        bos_token_id=50,
    )

    def call(model, codes, encoded, encoded_mask):
        out = model(
            codes.reshape(-1, codes.shape[-1]),
            encoder_hidden_states=encoded,
            encoder_attention_mask=encoded_mask,
            use_cache=False,
        )
        return out.logits

    inputs = {
        "codes": tokens("batch", 4, "seq", below=50),
        "encoded": normal("batch", "source", 32),
        "encoded_mask": padded("batch", "source"),
    }
    sizes = [
        {"batch": 2, "seq": 5, "source": 7},
        {"batch": 1, "seq": 1, "source": 1},
        {"batch": 3, "seq": 11, "source": 13},
    ]
    return Export(call, lively(t.MusicgenForCausalLM(config)), inputs, sizes)


MODELS = {
    "whisper_encoder": whisper_encoder,
    "whisper_decoder": whisper_decoder,
    "wav2vec2": of_waves(t.Wav2Vec2Config, t.Wav2Vec2ForCTC, **SMALL, **CONVS),
    "wav2vec2_masked": wav2vec2_masked,
    "hubert": of_waves(t.HubertConfig, t.HubertForCTC, **SMALL, **CONVS, script=True, opset=17),
    "conformer": conformer,
    "wav2vec2_bert": wav2vec2_bert,
    "ast": ast,
    "clap": clap,
    "encodec": encodec,
    "dac": dac,
    "vits": vits,
    "hifigan": hifigan,
    "musicgen": musicgen,
}
