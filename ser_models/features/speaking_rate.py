"""Speaking rate from the sound alone: syllable nuclei are voiced peaks of intensity.

The method is that of de Jong and Wempe (2009, Behavior Research Methods 41(2)): no transcript, no language.
"""

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from ser_models.features import short_time

_WINDOW = 0.064  # seconds; Praat's window for a minimum pitch of 50 Hz
_DIP = 2.0  # dB between two nuclei
_RANGE = 25.0  # dB below the loudest


def syllable_nuclei(
    waveform: NDArray[np.floating], sample_rate: int, hop: int, voiced: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Frames that hold the middle of a syllable.

    A nucleus is a voiced local maximum of the intensity (mean square under a Hann window of 64 ms, in dB) that stands
    2 dB above the dips on either side and at most 25 dB below the 99th percentile. A dip is measured as the peak's
    topographic prominence, which is our reading of the paper's "preceding dip".

    Args:
        waveform: [samples].
        sample_rate: Hz.
        hop: samples; frame t is centred on sample t · hop.
        voiced: [frames].

    Returns:
        [nuclei] ascending.
    """
    length = round(_WINDOW * sample_rate)
    window = np.sqrt(scipy.signal.windows.hann(length) * 2.0)  # weighs the squares by a Hann window of mean 1
    intensity = short_time.energy_db(short_time.frames(waveform, length, hop) * window)
    padded = np.concatenate([[short_time.FLOOR_DB], intensity, [short_time.FLOOR_DB]])
    peaks, _ = scipy.signal.find_peaks(
        padded, height=np.percentile(intensity, 99.0) - _RANGE, prominence=_DIP, plateau_size=1
    )
    frames = peaks - 1
    return np.asarray(frames[voiced[frames]])
