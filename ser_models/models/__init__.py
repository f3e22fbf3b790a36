"""The systems: one file per paper, and the registry that finds them by name."""

from ser_models.models.amh import AMH
from ser_models.models.avdal import AVDAL
from ser_models.models.functionals_svm import FunctionalsSVM
from ser_models.models.mdscm import MDSCM
from ser_models.models.systems import SYSTEMS, build_model, get_system
from ser_models.models.timnet import TIMNet

__all__ = ["AMH", "AVDAL", "MDSCM", "SYSTEMS", "FunctionalsSVM", "TIMNet", "build_model", "get_system"]
