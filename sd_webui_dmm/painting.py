"""Painting in styles: the host's sampling, with the styles injected while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from modules import script_callbacks, shared

from dmm.errors import DmmError
from dmm.ldm import check_fits, styled
from dmm.merged import Styles
from dmm.regions import Regions, per_picture
from sd_webui_dmm import api, tags, xyz_axes
from sd_webui_dmm.checkpoints import diffusion_model, loaded_file, styles_of
from sd_webui_dmm.request import Request

_NO_STYLES = "DMM styles: {} is a plain checkpoint without styles, so it paints as ever."
# The API's answer has no room for a notice.
_NO_STYLES_TO_PAINT_IN = (
    "{} is a plain checkpoint without styles. Choose a merged one, or leave the styles out."
)


class DmmStylesError(DmmError):
    """A `DmmError` as the hosts want it: their API answers with this status and message."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.status_code = 422
        self.detail = message


def prepare(p: Any, args: Sequence[Any]) -> None:
    """Called when the host begins a job, after `override_settings` have changed the checkpoint.

    Args:
        p: the host's StableDiffusionProcessing.
        args: the values of `ui.build`'s components, or an object (see `api`) in the first place.
    """
    if isinstance(vars(p).get("sample"), Sampling):
        del p.sample  # a script paints several jobs with one p
    by_hand = isinstance(args[0], Mapping)
    enabled = args[0].get("enabled", True) if by_hand else args[0]
    changes = xyz_axes.changes(p)
    if not (enabled or changes or any(map(tags.mix_in, p.all_prompts))):
        return
    error, request = None, Request()
    try:
        styles = styles_of(loaded_file())
        if styles is None:
            if enabled and by_hand:
                raise DmmError(_NO_STYLES_TO_PAINT_IN.format(loaded_file().name))
            p.comment(_NO_STYLES.format(loaded_file().name))
            return
        if enabled:
            request = api.read_request(args[0], styles.names) if by_hand else Request(*args[1:])
        for change in changes:
            request = change(request)
        # A new dictionary, since a script's jobs share the old one.
        p.extra_generation_params = p.extra_generation_params | request.infotext()
    except DmmError as reason:
        error = reason
    p.sample = Sampling(p, request, error)


def follow_checkpoint(params: script_callbacks.CFGDenoiserParams) -> None:
    """Called before every call of the UNet."""
    sampling = vars(params.denoiser.p).get("sample")
    if isinstance(sampling, Sampling):
        sampling.follow_checkpoint()
        if sampling.error:
            shared.state.interrupt()


class Sampling:
    """Stands in for `p.sample`, which paints a batch, its hires pass and refiner included.

    However the host's sampling ends, it leaves the UNet as it was. Errors are raised from here,
    since those raised in a script's hooks are only logged.

    Args:
        p: the host's StableDiffusionProcessing.
        error: is raised in the place of sampling.
    """

    def __init__(self, p: Any, request: Request, error: DmmError | None = None) -> None:
        self.error = error
        self._p = p
        self._request = request
        self._host_sample = p.sample
        self._hooks = ExitStack()
        self._styled: tuple[Path, bool] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        samples = None
        with self._hooks:
            self._styled = None
            self.follow_checkpoint()
            if not self.error:
                samples = self._host_sample(*args, **kwargs)
        if self.error:
            raise DmmStylesError(str(self.error)) from None
        return samples

    def follow_checkpoint(self) -> None:
        """Injects the styles anew where the hires pass began or the checkpoint changed."""
        now = (loaded_file(), self._in_hires_pass)
        if self.error or now == self._styled:
            return
        self._styled = now
        self._hooks.close()
        try:
            self._inject()
        except DmmError as error:
            self.error = error

    @property
    def _in_hires_pass(self) -> bool:
        return getattr(self._p, "is_hr_pass", False)

    def _inject(self) -> None:
        styles = styles_of(loaded_file())
        if styles is None:
            self._p.comment(_NO_STYLES.format(loaded_file().name))
            return
        unet = diffusion_model()
        check_fits(unet, styles.family, styles.prompts.dim)
        regions = self._regions(styles)
        if regions.has_style:
            self._hooks.enter_context(styled(unet, regions))

    def _regions(self, styles: Styles) -> Regions:
        """The styles of the batch: a prompt's tags go before the accordion's mix."""
        p = self._p
        prompts = p.all_hr_prompts if self._in_hires_pass else p.all_prompts
        prompts = prompts[p.iteration * p.batch_size : (p.iteration + 1) * p.batch_size]
        mixes = [tags.mix_in(prompt) or self._request.mix for prompt in prompts]
        regions = {
            mix: replace(self._request, mix=mix).regions_of(styles, (p.height, p.width))
            for mix in set(mixes)
        }
        if len(regions) == 1:
            return regions[mixes[0]]
        if any(" AND " in prompt for prompt in prompts):
            raise DmmError(
                "The prompts of this batch have different <dmm:…> tags, and AND in them. Set the "
                "batch size to 1 (and the batch count to more)."
            )
        return per_picture(*(regions[mix] for mix in mixes))
