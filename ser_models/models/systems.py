"""The registry: every system under its name. A new system is one file and one line here."""

from collections.abc import Mapping
from typing import Any

from ser_models.errors import UserError
from ser_models.models.amh import AMHSystem, MDRESystem, MHASystem
from ser_models.models.avdal import AVDALSystem
from ser_models.models.functionals_svm import FunctionalsSVMSystem
from ser_models.models.mdscm import MDSCMSystem
from ser_models.models.system import Net, System
from ser_models.models.timnet import TIMNetSystem

SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        TIMNetSystem(),
        FunctionalsSVMSystem(),
        AMHSystem(),
        MDRESystem(),
        MHASystem(),
        MDSCMSystem(),
        AVDALSystem(),
    )
}


def get_system(name: str) -> System:
    """The declaration of a system.

    Raises:
        UserError: there is no system of this name.
    """
    if name not in SYSTEMS:
        raise UserError(f"unknown system {name!r}; available: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def build_model(name: str, /, *, num_classes: int, **arguments: Any) -> Net:
    """Build a system's network; the defaults of its arguments give the paper's model.

    Args:
        name: of the system.
        num_classes: number of classes.
        arguments: of the network's constructor.

    Raises:
        UserError: the system is unknown, or an argument is unknown or impossible.

    Examples:
        >>> net = build_model("timnet", num_classes=7)
        >>> sum(parameter.numel() for parameter in net.parameters())
        104496
    """
    net = get_system(name).net
    try:
        return net(num_classes=num_classes, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"system {name!r}: {error}") from error
