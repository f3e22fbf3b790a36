"""Augmentation: what is asked for is what is heard, reproducible whatever shares the batch."""

import librosa
import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfiltfilt
from torchaudio import functional as audio

from ser_models.errors import UserError
from ser_models.features.augment import (
    AUGMENTATIONS,
    FrequencyWarp,
    SpecAugment,
    augment_features,
    copy_generator,
    generator,
    parse_augmentations,
)
from ser_models.features.augment_waveform import (
    Babble,
    Gain,
    GaussianNoise,
    PitchShift,
    Reverberation,
    Sound,
    SpeedPerturbation,
    Voices,
    augment_waveforms,
    shift_pitch,
)
from ser_models.features.vocal_tract import Vtlp, vtlp, warp_knots

RATE = 16000
GOLDEN_VTLP = [0.425305, 0.601532, 0.007792, -0.595398]
VOICES = Voices(
    [np.random.default_rng(k).standard_normal(3000 + 500 * k).astype(np.float32) for k in range(6)],
    ["a", "a", "b", "b", "c", "d"],
)
WAVEFORM_KINDS = ["gain", "noise", "babble", "reverberation", "speed", "pitch"]


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def batch(waves: list[np.ndarray], numbers: list[int] | None = None, epoch: int = 0) -> Sound:
    """Padded to the longest; example n has the random numbers of n."""
    lengths = [len(wave) for wave in waves]
    samples = np.zeros((len(waves), max(lengths)), np.float32)
    for row, wave in enumerate(waves):
        samples[row, : len(wave)] = wave
    numbers = list(range(len(waves))) if numbers is None else numbers
    return Sound(
        torch.from_numpy(samples),
        torch.tensor(lengths),
        RATE,
        [generator(3, epoch, number) for number in numbers],
        ["a"] * len(waves),
        VOICES,
    )


def peak(wave: np.ndarray) -> float:
    """Strongest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 19))
    return float(spectrum.argmax() * RATE / (1 << 19))


def band(centre: float, seconds: float = 4.0) -> np.ndarray:
    """Noise in a narrow band."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return sosfiltfilt(
        butter(4, [centre - 40, centre + 40], "bandpass", fs=RATE, output="sos"), noise
    ).astype(np.float32)


def centroid(wave: np.ndarray) -> float:
    """Centre of the power spectrum in Hz."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    return float((power * np.fft.rfftfreq(len(wave), 1 / RATE)).sum() / power.sum())


def snr(clean: torch.Tensor, noisy: torch.Tensor) -> float:
    return float(10 * torch.log10(clean.square().sum() / (noisy - clean).square().sum()))


# Of features


def test_masks_have_the_widths_that_were_asked_for() -> None:
    features = np.ones((100, 30), np.float32)
    widths, heights = set(), set()
    for example in range(300):
        masked = SpecAugment(time_masks=1, time_width=50, time_share=0.1, frequency_masks=0)(
            features, generator(0, 0, example)
        )
        hidden = np.flatnonzero((masked == 0).all(1))
        assert len(hidden) == 0 or hidden[-1] - hidden[0] + 1 == len(hidden)
        widths.add(len(hidden))
        masked = SpecAugment(time_masks=0, frequency_masks=1, frequency_width=4)(
            features, generator(0, 0, example)
        )
        heights.add(int((masked == 0).all(0).sum()))
    assert widths == set(range(11))  # a tenth of 100 frames
    assert heights == set(range(5))
    assert (features == 1).all()


def test_masked_values_become_zero_and_the_rest_stays() -> None:
    features = np.random.default_rng(0).standard_normal((80, 20)).astype(np.float32)
    masked = SpecAugment()(features, generator(1, 2, 3))
    assert masked.dtype == np.float32
    changed = masked != features
    assert changed.any() and (masked[changed] == 0).all()


def test_short_and_narrow_features_survive() -> None:
    for shape in [(1, 1), (3, 2), (0, 5)]:
        assert SpecAugment(frequency_width=50)(np.ones(shape, np.float32), generator(0, 0, 0)).shape == shape
    assert FrequencyWarp()(np.ones((4, 1), np.float32), generator(0, 0, 0)).shape == (4, 1)


def test_warp_moves_a_band_by_the_factor() -> None:
    features = np.zeros((2, 101), np.float32)
    features[:, 40] = 1
    for factor in (0.9, 1.1, 1.25):
        warped = FrequencyWarp(low=0.5, high=2.0).warp(features, factor)
        assert (warped[0] * np.arange(101)).sum() / warped[0].sum() == pytest.approx(40 * factor, abs=0.5)
    np.testing.assert_array_equal(FrequencyWarp().warp(features, 1.0), features)
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None]
    warped = FrequencyWarp().warp(ramp, 1.1)
    assert warped[0, 0] == 0 and warped[0, -1] == 1 and (np.diff(warped[0]) > 0).all()


def test_features_of_a_batch_are_changed_per_example_and_reproducibly() -> None:
    chain = parse_augmentations("spec_augment,frequency_warp[low=0.8]", ["features"])
    values = torch.randn(3, 50, 12, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([50, 20, 0])
    values *= torch.arange(50)[None, :, None] < lengths[:, None, None]

    def run(rows: list[int], epoch: int = 0) -> torch.Tensor:
        return augment_features(
            chain, values[rows], lengths[rows], [generator(1, epoch, row) for row in rows]
        )

    together = run([0, 1, 2])
    assert (together[1, 20:] == 0).all() and (together[2] == 0).all()
    torch.testing.assert_close(run([1])[0], together[1], rtol=0, atol=0)
    torch.testing.assert_close(run([2, 0])[1], together[0], rtol=0, atol=0)
    assert not torch.equal(run([0], epoch=1)[0], together[0])
    assert not torch.equal(together[0], values[0])


# Of waveforms


def test_noise_has_the_ratio_that_was_asked_for_over_each_length() -> None:
    sound = batch([tone(200, 1.0), tone(300, 0.25)])
    for ratio in (-5.0, 0.0, 20.0):
        noisy = augment_waveforms([GaussianNoise(snr_low=ratio, snr_high=ratio, probability=1.0)], sound)
        for row, length in enumerate(sound.lengths):
            assert snr(sound.samples[row, :length], noisy.samples[row, :length]) == pytest.approx(
                ratio, abs=1e-3
            )
        assert (noisy.samples[1, sound.lengths[1] :] == 0).all()


def test_noise_equals_torchaudio() -> None:
    sound = batch([tone(200, 1.0), tone(300, 0.25)])
    noisy = GaussianNoise(snr_low=7, snr_high=7, probability=1.0)(sound)
    noise = noisy.samples - sound.samples
    expected = audio.add_noise(sound.samples, noise, torch.tensor([7.0, 7.0]), sound.lengths)
    torch.testing.assert_close(noisy.samples, expected, rtol=0, atol=1e-5)


def test_babble_is_other_speakers_at_the_ratio_asked_for() -> None:
    sound = batch([tone(200, 2.0), tone(300, 0.25)])
    noisy = Babble(snr_low=3, snr_high=3, probability=1.0, talkers=1)(sound)
    for row, length in enumerate(sound.lengths):
        added = (noisy.samples - sound.samples)[row, :length].numpy()
        assert snr(sound.samples[row, :length], noisy.samples[row, :length]) == pytest.approx(3, abs=1e-3)
        likeness = []
        for voice in VOICES.waveforms:
            shifts = np.correlate(np.tile(voice, 3)[: 2 * len(voice)], added[:1000], "valid")
            likeness.append(shifts.max() / np.linalg.norm(added[:1000]) / np.sqrt(1000))
        assert VOICES.speakers[int(np.argmax(likeness))] != "a" and max(likeness) > 0.9


def test_babble_without_other_speakers_is_refused() -> None:
    alone = batch([tone(200)])
    alone = Sound(
        alone.samples, alone.lengths, RATE, alone.generators, ["a"], Voices(VOICES.waveforms[:2], ["a", "a"])
    )
    with pytest.raises(UserError, match="no utterance of another speaker"):
        Babble(probability=1.0)(alone)


def test_gain_is_the_one_that_was_asked_for() -> None:
    sound = batch([tone(200), tone(300, 0.5)])
    louder = Gain(low=6, high=6, probability=1.0)(sound)
    torch.testing.assert_close(louder.samples, sound.samples * 10 ** (6 / 20))


def test_a_room_rings_as_long_as_asked_and_keeps_the_energy() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 1.0
    sound = batch([click, tone(300, 0.3)])
    room = Reverberation(rt60_low=0.4, rt60_high=0.4, direct_low=5, direct_high=5, probability=1.0)(sound)
    torch.testing.assert_close(room.samples.square().sum(1), sound.samples.square().sum(1), rtol=1e-4, atol=0)
    assert (room.samples[1, sound.lengths[1] :] == 0).all()
    response = room.samples[0, 100:].double().numpy()
    direct, tail = response[0] ** 2, response[1:] ** 2
    assert 10 * np.log10(direct / tail.sum()) == pytest.approx(5, abs=0.01)
    decay = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum() + 1e-12)  # Schroeder's backward integral
    fall = [int(np.argmax(decay < level)) / RATE for level in (-5, -25)]
    assert 3 * (fall[1] - fall[0]) == pytest.approx(0.4, rel=0.05)


def test_speed_changes_length_and_pitch_as_torchaudio_does() -> None:
    waves = [tone(500, 1.0), tone(500, 0.501), tone(500, 0.25), tone(500, 0.7)]
    sound = batch(waves)
    played = SpeedPerturbation(change=0.1, probability=1.0)(sound)
    seen = set()
    for row, wave in enumerate(waves):
        length = int(played.lengths[row])
        factor = round(len(wave) / length, 1)
        seen.add(factor)
        expected, lengths = audio.speed(torch.from_numpy(wave)[None], RATE, factor, torch.tensor([len(wave)]))
        assert length == int(lengths[0])
        torch.testing.assert_close(played.samples[row, :length], expected[0, :length], rtol=0, atol=1e-5)
        assert peak(played.samples[row, :length].numpy()) == pytest.approx(500 * factor, rel=2e-3)
        assert (played.samples[row, length:] == 0).all()
    assert seen == {0.9, 1.1}


@pytest.mark.parametrize("semitones", [-4, -1, 1, 2, 7])
def test_pitch_moves_as_librosa_moves_it(semitones: int) -> None:
    wave = tone(220, 2.0)
    ours = shift_pitch(torch.from_numpy(wave)[None], RATE, semitones)[0].numpy()
    theirs = librosa.effects.pitch_shift(wave, sr=RATE, n_steps=semitones)
    assert ours.shape == wave.shape
    middle = slice(RATE // 2, -RATE // 2)  # both fade in and out
    assert peak(ours[middle]) / 220 == pytest.approx(2 ** (semitones / 12), rel=2e-3)
    assert peak(ours[middle]) == pytest.approx(peak(theirs[middle]), rel=3e-3)


def test_every_step_of_pitch_is_drawn_and_lengths_stay() -> None:
    sound = batch([tone(300, 0.5)] * 40)
    shifted = PitchShift(semitones=2, probability=1.0)(sound)
    assert torch.equal(shifted.lengths, sound.lengths)
    steps = {round(12 * np.log2(peak(wave.numpy()) / 300)) for wave in shifted.samples}
    assert steps == {-2, -1, 1, 2}
    torch.testing.assert_close(
        shifted.samples.square().sum(1), sound.samples.square().sum(1), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("name", WAVEFORM_KINDS)
def test_an_example_sounds_the_same_whatever_shares_its_batch(name: str) -> None:
    chain = parse_augmentations(f"{name}[probability=1.0]", ["waveform"])
    random = np.random.default_rng(5)
    waves = [random.standard_normal(length).astype(np.float32) for length in (9000, 16000, 4001)]
    together = augment_waveforms(chain, batch(waves))
    for row, wave in enumerate(waves):
        alone = augment_waveforms(chain, batch([wave], [row]))
        length = int(alone.lengths[0])
        assert length == int(together.lengths[row])
        largest = float(alone.samples.abs().max())
        torch.testing.assert_close(
            together.samples[row, :length], alone.samples[0, :length], rtol=0, atol=1e-5 * largest
        )
        assert (together.samples[row, length:] == 0).all()
    later = augment_waveforms(chain, batch(waves, epoch=1))
    assert later.samples.shape != together.samples.shape or not torch.equal(later.samples, together.samples)


@pytest.mark.parametrize("name", WAVEFORM_KINDS)
def test_probability_zero_changes_nothing_and_a_half_changes_half(name: str) -> None:
    sound = batch([tone(200, 0.2)] * 60)
    (never,) = parse_augmentations(f"{name}[probability=0]", ["waveform"])
    torch.testing.assert_close(never(sound).samples, sound.samples, rtol=0, atol=0)
    (sometimes,) = parse_augmentations(name, ["waveform"])
    result = sometimes(batch([tone(200, 0.2)] * 60))
    same = sum(
        int(length) == 3200 and torch.equal(row[:3200], sound.samples[0])
        for row, length in zip(result.samples, result.lengths, strict=True)
    )
    assert 15 <= same <= 45


@pytest.mark.parametrize("name", WAVEFORM_KINDS)
def test_silence_and_absent_examples_stay_finite(name: str) -> None:
    (augmentation,) = parse_augmentations(f"{name}[probability=1]", ["waveform"])
    result = augmentation(batch([np.zeros(8000, np.float32), np.zeros(0, np.float32), tone(200, 0.5)]))
    assert torch.isfinite(result.samples).all()
    assert (result.samples[:2] == 0).all() and int(result.lengths[1]) == 0


# Copies


def test_warp_knots_are_the_papers_formula() -> None:
    for factor in (0.8, 0.95, 1.2):
        origins, targets = warp_knots(factor, 4800, 8000)
        scale = 4800 * min(factor, 1)
        for f in (0.0, 1000.0, 3900.0, 5000.0, 7000.0, 8000.0):
            expected = (
                f * factor
                if f <= scale / factor
                else 8000 - (8000 - scale) / (8000 - scale / factor) * (8000 - f)
            )
            assert np.interp(f, origins, targets) == pytest.approx(expected)
    with pytest.raises(ValueError, match="cutoff between 0 and 4000"):
        warp_knots(1.1, 4800, 4000)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.2])
def test_vtlp_moves_the_spectrum_as_the_paper_says(factor: float) -> None:
    origins, targets = warp_knots(factor, 4800, 8000)
    for centre in (500, 2000, 6500):
        wave = band(centre)
        warped = vtlp(wave, RATE, factor)
        assert warped.dtype == np.float32 and warped.shape == wave.shape
        assert centroid(warped) == pytest.approx(np.interp(centre, origins, targets), rel=0.02)
        assert peak(vtlp(tone(centre), RATE, factor)) == pytest.approx(
            np.interp(centre, origins, targets), rel=5e-3
        )
        assert np.square(warped).sum() == pytest.approx(np.square(wave).sum(), rel=1e-3)


def test_vtlp_with_factor_one_is_the_waveform() -> None:
    for length in (100, 2048, 16001):
        wave = np.random.default_rng(0).standard_normal(length).astype(np.float32)
        np.testing.assert_allclose(vtlp(wave, RATE, 1.0), wave, atol=1e-5)


@pytest.mark.parametrize(("factor", "real"), [(1.2, 4 / 3), (0.8, 0.6957)])
def test_the_rule_of_nlpaug_is_what_that_library_computes(factor: float, real: float) -> None:
    """Bin by bin, from the description of its algorithm."""
    wave = np.random.default_rng(0).standard_normal(9216).astype(np.float32)
    spectrum = librosa.stft(wave)
    bins = len(spectrum)
    scale = 4800 * min(factor, 1)
    places = []
    for number in range(bins):
        f = number / (bins - 1) * RATE
        above = 8000 - (8000 - scale) / (8000 - scale / factor) * (8000 - f)
        places.append(f * factor if f <= scale / factor else above)
    places = np.array(places) * (bins - 1) / max(places)
    expected = np.zeros_like(spectrum)
    expected[0], expected[-1] = spectrum[0], spectrum[-1]
    for number in range(1, bins - 1):
        below = int(places[number])
        expected[below] += (1 - places[number] + below) * spectrum[number]
        expected[below + 1] += (places[number] - below) * spectrum[number]
    reference = librosa.istft(expected, length=len(wave))
    found = vtlp(wave, RATE, factor, rule="nlpaug")
    np.testing.assert_allclose(found, reference, atol=1e-4)
    assert centroid(vtlp(band(1000), RATE, factor, rule="nlpaug")) == pytest.approx(1000 * real, rel=0.02)


def test_each_copy_of_an_utterance_has_its_own_repeatable_factor() -> None:
    wave = tone(300, 0.3)
    copies = [Vtlp()(wave, RATE, copy_generator("Ses01F_impro01_F000", copy)) for copy in range(3)]
    assert not np.array_equal(copies[0], copies[1]) and not np.array_equal(copies[1], copies[2])
    np.testing.assert_array_equal(copies[1], Vtlp()(wave, RATE, copy_generator("Ses01F_impro01_F000", 1)))
    factors = [copy_generator(f"utterance {n}", 0).uniform(0.8, 1.2) for n in range(500)]
    assert 0.8 <= min(factors) < 0.81 and 1.19 < max(factors) <= 1.2


def test_golden_values_of_vtlp() -> None:
    """Copies lie in shards: change these only together with the fingerprint of copies."""
    warped = vtlp(tone(440, 0.25) + tone(3000, 0.25), RATE, 1.1)
    np.testing.assert_allclose(warped[[500, 1000, 2000, 3000]], GOLDEN_VTLP, atol=1e-4)


def test_a_cutoff_above_half_the_rate_is_refused() -> None:
    with pytest.raises(UserError, match="cutoff .4800 Hz. must lie below half the sample rate, 4000 Hz"):
        Vtlp()(np.zeros(100, np.float32), 8000, generator(0, 0, 0))


# The notation


def test_every_registered_augmentation_is_built_by_its_name() -> None:
    for name in AUGMENTATIONS:
        kind = {"spec_augment": "features", "frequency_warp": "features", "vtlp": "copy"}.get(
            name, "waveform"
        )
        (built,) = parse_augmentations(name, [kind])
        assert built.name == name and built.kind == kind
    assert parse_augmentations("", ["features"]) == []


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("echo", "waveform", "there is no augmentation 'echo'"),
        ("spec_augment", "waveform", "is of the kind 'features'"),
        ("noise[level=3]", "waveform", "the names are probability, snr_low, snr_high"),
        ("noise[snr_low=loud]", "waveform", "snr_low must be a number, got 'loud'"),
        ("noise[snr_low=1", "waveform", "cannot be read"),
        ("noise[snr_low=1]x", "waveform", "nothing may follow"),
        ("noise[snr_low=1,snr_low=2]", "waveform", "each once"),
        ("noise[snr_low=40]", "waveform", "snr_low <= snr_high is needed"),
        ("babble[talkers=0]", "waveform", "talkers must be at least 1"),
        ("gain[low=7]", "waveform", "low <= high"),
        ("reverberation[rt60_low=0]", "waveform", "0.01 <= rt60_low"),
        ("speed[change=0.9]", "waveform", "change must lie in"),
        ("pitch[semitones=0]", "waveform", "semitones must lie in"),
        ("pitch[probability=1.5]", "waveform", "probability must lie in"),
        ("spec_augment[time_masks=-1]", "features", "time_masks must be at least 0"),
        ("spec_augment[time_share=2]", "features", "time_share must lie in"),
        ("frequency_warp[cutoff=1]", "features", "cutoff must lie between"),
        ("frequency_warp[low=0]", "features", "0 < low <= high"),
        ("vtlp[low=1.3]", "copy", "0 < low <= high"),
        ("vtlp[rule=other]", "copy", "rule must be one of jaitly, nlpaug"),
    ],
)
def test_bad_specs_are_explained(text: str, kind: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse_augmentations(text, [kind])


def test_arrays_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="spec_augment needs features"):
        SpecAugment()(np.zeros(5, np.float32), generator(0, 0, 0))
    with pytest.raises(ValueError, match="frequency_warp needs features"):
        FrequencyWarp()(np.zeros((5, 5), np.uint8), generator(0, 0, 0))
