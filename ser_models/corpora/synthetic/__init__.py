"""Generated signals in the layout of a real corpus: ``python -m ser_models.corpora.synthetic NAME OUT``.

They stand in where the recordings may not be copied: demonstrations, tests, dry runs on a cluster. Sound comes
from ``speech.py``, its emotion from ``prosody.py``; pictures are drawn by ``faces.py``, texts by ``words.py``,
labels by ``annotators.py``; ``acted.py``, ``iemocap.py`` and ``meld.py`` lay them out as files. Each recording
depends only on the seed, its form (rate, length) and its own name, so a smaller corpus is a part of a larger
one (in meld also on the number of speakers, who share out the dialogues). A marker file says that nobody spoke
these recordings, and every manifest made from them carries that on.
"""

from ser_models.corpora.synthetic.generate import LAYOUTS, VERSION, generate, layout_of
from ser_models.corpora.synthetic.plan import File, Layout, Plan, Settings

__all__ = ["LAYOUTS", "VERSION", "File", "Layout", "Plan", "Settings", "generate", "layout_of"]
