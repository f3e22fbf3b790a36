"""The report's figures as inline SVG: matplotlib draws, the page's own text colour and font are used.

Figures are drawn narrow so that their text stays readable on a phone. Text stays text (no glyph outlines),
and names from a corpus are escaped by matplotlib's XML writer; mathematics in them is not interpreted.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Values = npt.NDArray[np.float64]

# Replaced by `currentColor`, so that one figure serves light and dark pages.
_INK = "#010203"

_BLUE, _ORANGE = "#3f83d6", "#d9742b"
_WIDTH = 5.2
_NAMED_SPEAKERS = 60
"""More speakers than this are drawn without their names."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    **{
        key: _INK
        for key in (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
        )
    },
}


def learning_curves(histories: Sequence[dict[str, Any]], score_name: str = "UAR") -> Markup | None:
    """Loss and validation score per epoch: each fold a thin line, their mean a thick one, selected epochs dots.

    The mean ends where the shortest fold ends; beyond, it would change its folds from epoch to epoch.

    Args:
        histories: the ``fold.json`` of each fold.
        score_name: of the score that selects, ``UAR`` or ``CCC``.

    Returns:
        None where no fold was trained by epochs.
    """
    records = [record for record in histories if record.get("history")]
    if not records:
        return None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 5.6), layout="constrained")
        loss, score = figure.subplots(2, 1, sharex=True)
        _curves(loss, records, "train_loss", _BLUE, "training")
        _curves(loss, records, "validation_loss", _ORANGE, "validation")
        _curves(score, records, f"validation_{score_name.lower()}", _ORANGE, "validation", mark_selected=True)
        loss.set_ylabel("loss")
        score.set_ylabel(f"validation {score_name}")
        score.set_xlabel("epoch")
        score.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (loss, score):
            axes.grid(alpha=0.2)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="best")
        return _svg(figure, f"Learning curves: loss and validation {score_name} per epoch")


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Confusion matrix: share of each true class in per cent, and counts.

    Args:
        counts: ``[C, C]``, row = truth.
        classes: their names.
    """
    matrix = np.asarray(counts, dtype=float)
    support = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, support, out=np.zeros_like(matrix), where=support > 0)
    size = max(_WIDTH, 0.62 * len(classes) + 1.2)
    with matplotlib.rc_context({**_STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        edges = np.arange(len(classes) + 1) - 0.5
        axes.pcolormesh(edges, edges, share, cmap="Blues", vmin=0, vmax=1, edgecolors="none")
        for row, column in np.ndindex(*matrix.shape):
            text = (
                f"{100 * share[row, column]:.0f}\u202f%\n{matrix[row, column]:.0f}"
                if support[row]
                else "none"
            )
            colour = "white" if share[row, column] > 0.55 else "#12283f"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), classes)
        axes.tick_params(length=0)
        axes.set(xlabel="predicted", ylabel="true", aspect="equal")
        axes.invert_yaxis()
        return _svg(figure, "Confusion matrix")


def speaker_recalls(groups: Sequence[dict[str, Any]], pooled: float | None, chance: float) -> Markup | None:
    """UAR of each speaker, sorted, beside the pooled UAR and chance.

    Args:
        groups: rows with ``group`` and ``uar``.
        pooled: the UAR of all speakers.
        chance: the UAR of guessing.
    """
    known = sorted(
        (row for row in groups if row["uar"] is not None), key=lambda row: (row["uar"], row["group"])
    )
    if not known:
        return None
    named = len(known) <= _NAMED_SPEAKERS
    values = [row["uar"] for row in known]
    positions = np.arange(len(known))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.2 * len(known) if named else 5.0), layout="constrained")
        axes = figure.subplots()
        axes.hlines(positions, 0, values, color=_BLUE, alpha=0.35, linewidth=1.5)
        axes.plot(values, positions, "o", color=_BLUE, markersize=5)
        if pooled is not None:
            axes.axvline(pooled, color=_ORANGE, linewidth=1.2, label="all speakers, pooled")
        axes.axvline(chance, color=_INK, alpha=0.5, linewidth=1, linestyle=":", label="chance")
        axes.set(xlim=(0, 1.02), ylim=(-0.8, len(known) - 0.2), xlabel="UAR")
        if named:
            axes.set_yticks(positions, [str(row["group"]) for row in known])
        else:
            axes.set_yticks([])
            axes.set_ylabel(f"{len(known)} speakers")
        figure.legend(loc="outside upper right", ncols=2)
        return _svg(figure, "UAR of each speaker, sorted")


def agreement(target: Values, predicted: Values, names: Sequence[str]) -> Markup:
    """Predicted against true values of each dimension as hexagons, darker where there are more; the diagonal agrees.

    Args:
        target: ``[utterances, dimensions]``.
        predicted: ``[utterances, dimensions]``.
        names: of the dimensions.
    """
    shades = LinearSegmentedColormap.from_list("shades", [to_rgba(_BLUE, 0.3), to_rgba(_BLUE, 1.0)])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.4 + 2.6 * len(names)), layout="constrained")
        for axes, name, true, answer in zip(
            figure.subplots(len(names), 1, squeeze=False)[:, 0], names, target.T, predicted.T, strict=True
        ):
            low, high = float(min(true.min(), answer.min())), float(max(true.max(), answer.max()))
            margin = 0.04 * (high - low) or 0.5
            limits = (low - margin, high + margin)
            axes.hexbin(
                true,
                answer,
                gridsize=30,
                extent=(*limits, *limits),
                mincnt=1,
                bins="log",
                cmap=shades,
                linewidths=0,
            )
            axes.plot(limits, limits, color=_ORANGE, linewidth=1.2, linestyle="--")
            axes.set(xlim=limits, ylim=limits, xlabel=f"true {name}", ylabel=f"predicted {name}")
            axes.grid(alpha=0.2)
        return _svg(figure, "Predicted against true values of each dimension")


def _curves(
    axes: Axes,
    records: Sequence[dict[str, Any]],
    key: str,
    colour: str,
    label: str,
    *,
    mark_selected: bool = False,
) -> None:
    curves = [curve for record in records if (curve := _curve(record, key))]
    if not curves:
        return
    thin = max(0.12, 0.5 / len(curves) ** 0.5)
    for curve in curves:
        axes.plot(list(curve), list(curve.values()), color=colour, alpha=thin, linewidth=0.9)
    if mark_selected:
        chosen = [
            (epoch, curve[epoch])
            for record in records
            if (curve := _curve(record, key)) and (epoch := record.get("selected_epoch")) in curve
        ]
        if chosen:
            axes.plot(
                *zip(*chosen, strict=True), "o", color=_BLUE, markersize=4, alpha=0.8, label="selected epoch"
            )
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    if shared:
        mean = [float(np.mean([curve[epoch] for curve in curves])) for epoch in shared]
        marker = "o" if len(shared) == 1 else ""
        axes.plot(shared, mean, color=colour, linewidth=2.2, marker=marker, label=f"{label}, mean of folds")


def _curve(record: dict[str, Any], key: str) -> dict[int, float]:
    """Value by epoch, without epochs where it was not measured."""
    values = {entry["epoch"]: entry.get(key) for entry in record["history"]}
    return {
        epoch: float(value) for epoch, value in values.items() if value is not None and np.isfinite(value)
    }


def _svg(figure: Figure, title: str) -> Markup:
    """An SVG element for an HTML page: no prologue, no metadata, no name space, no fixed size."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Ids must differ between the figures of one page, and be the same in each run.
    salt = hashlib.sha256(title.encode()).hexdigest()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)
    assert view is not None
    opening = f'<svg viewBox="{view[0][9:-1]}" role="img" aria-label="{escape(title)}">'
    drawing = opening + drawing[drawing.index(">") + 1 :]
    drawing = re.sub(r"<(metadata|style)\b.*?</\1>", "", drawing, flags=re.DOTALL)
    # Groups are numbered alike in every figure, and nothing refers to them.
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)
    # The page sets the font for all its text; matplotlib's list names fonts that phones lack.
    drawing = re.sub(r"font-family: [^;\"]*;? ?", "", drawing)
    return Markup(drawing.replace(_INK, "currentColor"))
