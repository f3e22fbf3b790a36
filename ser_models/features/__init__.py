"""From a recording to what a network reads: decoding, and one file per family of views."""

from ser_models.features.views import View, ViewSpec, build_view, parse_specs

__all__ = ["View", "ViewSpec", "build_view", "parse_specs"]
