"""ControlNet units at work: those of the extension sd-webui-controlnet, and Forge's own.

Both keep what a unit paints with in an object of the job's. While a picture is painted, the network
in there is exchanged for one that follows a control, and shares its weights with the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modules import scripts
from torch import nn

from dmm.ldm import styled
from dmm.regions import Regions

Exchange = tuple[Any, str, Any]
"""An object, one of its attributes, and what to put there."""

_SCRIPT, _TITLE = "controlnet.py", "ControlNet"  # in the extension as in Forge


@dataclass(frozen=True)
class Unit:
    """A ControlNet unit that is switched on.

    Attributes:
        number: as the host's page counts them, from 0.
        preprocessor: its name.
        kinds: of control that the preprocessor is for, as the host calls them: "Canny".
        file: of its model; None where it has none.
    """

    number: int
    preprocessor: str
    kinds: tuple[str, ...]
    file: Path | None


def units_of(p: Any) -> list[Unit]:
    """The units that are switched on in a job, in the order in which the host counts them then.

    Args:
        p: the host's StableDiffusionProcessing.
    """
    host = _host()
    script = host and _script(p)
    if script is None:
        return []
    try:
        units = list(host.units(p, script))
    except ValueError:
        return []  # the host says what is wrong with them
    return [
        Unit(number, unit.module, kinds_of(unit.module), file_of(unit.model))
        for number, unit in units
    ]


def file_of(model: str) -> Path | None:
    """The file of a ControlNet that the host lists under this name."""
    host = _host()
    file = host.file(model) if host else None
    return Path(file) if file else None


def kinds_of(preprocessor: str) -> tuple[str, ...]:
    """The kinds of control that a preprocessor is for, as the host calls them."""
    host = _host()
    found = host.preprocessor(preprocessor) if host else None
    return tuple(found.tags) if found else ()


@contextmanager
def steered(p: Any, controls: Mapping[int, Regions]) -> Iterator[None]:
    """Within the block, ControlNet units follow the controls; afterwards all is as it was.

    Args:
        p: the host's StableDiffusionProcessing, for which the host has prepared its units.
        controls: for units by their number.
    """
    with ExitStack() as exchanged:
        if controls:
            host, script = _host(), _script(p)
            numbers = [number for number, _ in host.units(p, script)]
            # Without strict=: the host leaves out a unit that it could not prepare, and says so.
            for number, work in zip(numbers, host.at_work(script)):  # noqa: B905
                if number in controls:
                    holder, name, steered_net = host.exchange(work, controls[number])
                    exchanged.callback(setattr, holder, name, getattr(holder, name))
                    setattr(holder, name, steered_net)
        yield


def _steered(net: nn.Module, network: nn.Module, control: Regions) -> nn.Module:
    """`net`, whose `network` follows a control while it is called; both share their weights."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        with styled(network, control):
            return net.forward(*args, **kwargs)

    chosen = copy(net)
    chosen.forward = forward
    return chosen


class _Host(Protocol):
    def file(self, model: str) -> str | None: ...

    def preprocessor(self, name: str) -> Any | None: ...

    def units(self, p: Any, script: Any) -> Iterator[tuple[int, Any]]:
        """The units that are switched on, with their numbers."""

    def at_work(self, script: Any) -> list[Any]:
        """What each of them paints with."""

    def exchange(self, work: Any, control: Regions) -> Exchange: ...


class _Extension:
    """sd-webui-controlnet.

    Args:
        module: its script's.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def file(self, model: str) -> str | None:
        files = self._module.global_state.cn_models
        return files.get(model) or files.get(self._module.find_closest_lora_model_name(model))

    def preprocessor(self, name: str) -> Any | None:
        return self._module.Preprocessor.get_preprocessor(name)

    def units(self, p: Any, script: Any) -> Iterator[tuple[int, Any]]:
        units = self._module.external_code.get_all_units_in_processing(p)
        for number, unit in enumerate(units):
            unit = script.parse_remote_call(p, unit, number)  # as X/Y/Z plots change it
            if unit.enabled:
                # A unit with several pictures is at work once for each.
                times = len(unit.image) if unit.input_mode.name == "MERGE" else 1
                yield from [(number, unit)] * times

    def at_work(self, script: Any) -> list[Any]:
        return getattr(script.latest_network, "control_params", None) or []

    def exchange(self, work: Any, control: Regions) -> Exchange:
        net = work.control_model
        return work, "control_model", _steered(net, net.control_model, control)


class _Forge:
    """The ControlNet that Forge brings.

    Args:
        module: its script's.
    """

    def __init__(self, module: Any) -> None:
        self._state = module.global_state

    def file(self, model: str) -> str | None:
        return self._state.controlnet_filename_dict.get(model) if model != "None" else None

    def preprocessor(self, name: str) -> Any | None:
        return self._state.get_preprocessor(name)

    def units(self, p: Any, script: Any) -> Iterator[tuple[int, Any]]:
        for number, unit in enumerate(p.script_args[script.args_from : script.args_to]):
            for enabled in script.get_enabled_units([unit]):
                yield number, enabled

    def at_work(self, script: Any) -> list[Any]:
        return list(script.current_params.values())

    def exchange(self, work: Any, control: Regions) -> Exchange:
        patcher = copy(work.model)
        patcher.model_patcher = copy(patcher.model_patcher)
        patcher.model_patcher.copy = _copied_in(control, work.model.model_patcher)
        return work, "model", patcher


def _copied_in(control: Regions, net: Any) -> Callable[[], Any]:
    """Forge copies a ControlNet for each pass, and manages the memory of what the copy was made of;
    so it is a copy that gets the steered network."""

    def copied() -> Any:
        chosen = net.copy()
        chosen.control_model = _steered(chosen.control_model, chosen.control_model, control)
        return chosen

    return copied


def _host() -> _Host | None:
    """None where the host has no ControlNet, or it is switched off."""
    modules = (data.module for data in scripts.scripts_data if Path(data.path).name == _SCRIPT)
    module = next((module for module in modules if hasattr(module, "global_state")), None)
    if module is None:
        return None
    return _Extension(module) if hasattr(module, "UnetHook") else _Forge(module)


def _script(p: Any) -> Any | None:
    """The ControlNet script of a job."""
    always_on = p.scripts.alwayson_scripts if p.scripts else ()
    return next((script for script in always_on if script.title() == _TITLE), None)
