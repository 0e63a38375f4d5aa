"""What a job is painted in, as the accordion, the API, tags and settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from dmm.errors import DmmError
from dmm.regions import Regions
from sd_webui_dmm import api, changes, settings, tags
from sd_webui_dmm.adapters import adapter_in, notice_of, styles_in_use
from sd_webui_dmm.checkpoints import loaded_file
from sd_webui_dmm.controlnets.controls import controls_of
from sd_webui_dmm.painting.sampling import NO_STYLES, Sampling
from sd_webui_dmm.request import Request

# The API's answer has no room for a notice.
_NO_STYLES_TO_PAINT_IN = (
    "{} is a plain checkpoint without styles. Choose a merged one, or leave the styles out."
)

_UNREAD_UNITS = (
    "DMM controls: the ControlNet units cannot be read ({}), so a merged ControlNet among them "
    "follows the average of its controls."
)


def prepare(p: Any, args: Sequence[Any]) -> None:
    """Called when the host begins a job, after `override_settings` have changed the checkpoint.

    Args:
        p: the host's StableDiffusionProcessing.
        args: the values of `accordion.build`'s components, or an object (see `api`) in the first
            place; none in a job that another extension made without them.
    """
    Sampling.of(p).end_job()
    controls, request, error = {}, None, None
    try:
        if changes.without_tags(p):
            _leave_tags_out(p)
        controls = _controls(p, args)
        request = _request(p, args)
    except Exception as reason:  # the host would log it, and paint without styles
        error = reason
    if controls or request or error:
        Sampling.of(p).begin_job(request, error, controls)


def _controls(p: Any, args: Sequence[Any]) -> dict[int, Regions]:
    """What the job's ControlNet units follow."""
    if isinstance(_first(args), Mapping):
        said, by_hand = api.read_controls(args[0]), args[0].get("enabled", True)
    else:
        said, by_hand = ((args[-1] if args else None) or "").splitlines(), False
    try:
        return controls_of(p, said, by_hand=by_hand)
    except DmmError:
        raise
    except Exception as reason:  # another ControlNet than the ones we know, whose jobs go on
        if any(said):
            raise
        p.comment(_UNREAD_UNITS.format(f"{type(reason).__name__}: {reason}"))
        return {}


def _request(p: Any, args: Sequence[Any]) -> Request | None:
    """What the job is painted in; None for no styles."""
    by_hand = isinstance(_first(args), Mapping)
    enabled = api.asks_for_styles(args[0]) if by_hand else _first(args)
    if not (enabled or changes.of(p) or _has_tags(p)):
        return None
    request = settings.default_request()
    styles = styles_in_use(loaded_file(), p.all_prompts)
    if notice := notice_of(adapter_in(p.all_prompts[0])):
        p.comment(notice)
    if styles is None:
        if enabled and by_hand:
            raise DmmError(_NO_STYLES_TO_PAINT_IN.format(loaded_file().name))
        p.comment(NO_STYLES.format(loaded_file().name))
        return None
    if enabled and by_hand:
        request = api.read_request(args[0], styles.names, request)
    elif enabled:
        request = _positional_request(args[1:-1], request)
    for change in changes.of(p):
        request = change(request)
    _note(p, request)
    return request


def _first(args: Sequence[Any]) -> Any:
    return args[0] if args else None


def _positional_request(values: Sequence[Any], default: Request) -> Request:
    """The accordion's values in their order; null, from clients of the API, says nothing."""
    named = zip(fields(Request), values, strict=True)
    return replace(default, **{field.name: value for field, value in named if value is not None})


def begin_job(p: Any, request: Request) -> None:
    """For a job without the accordion: it is painted as requested."""
    _note(p, request)
    Sampling.of(p).begin_job(request)


def _note(p: Any, request: Request) -> None:
    """Has the infotext of the job's pictures tell of the request."""
    # A new dictionary, since a script's jobs share the old one.
    p.extra_generation_params = p.extra_generation_params | request.infotext()


def _has_tags(p: Any) -> bool:
    """Whether a prompt has a tag, be it one that another extension asks for."""
    asked = (arg for arg in p.script_args if isinstance(arg, str))
    return any(map(tags.mix_in, (*p.all_prompts, *_hires_prompts(p), *asked)))


def _leave_tags_out(p: Any) -> None:
    p.all_prompts = list(map(tags.without_tags, p.all_prompts))
    if _hires_prompts(p):
        p.all_hr_prompts = list(map(tags.without_tags, p.all_hr_prompts))


def _hires_prompts(p: Any) -> list[str]:
    return getattr(p, "all_hr_prompts", None) or []
