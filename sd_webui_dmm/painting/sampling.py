"""Painting in styles: the host's sampling, with the styles injected while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

from modules import script_callbacks, shared

from dmm.errors import DmmError
from dmm.ldm import check_fits, styled
from dmm.merged import Styles
from dmm.regions import Regions
from dmm.schedules import PerPicture, Plan
from dmm.words import SEPARATE
from sd_webui_dmm import tags
from sd_webui_dmm.adapters import styles_in_use
from sd_webui_dmm.checkpoints import diffusion_model, loaded_file
from sd_webui_dmm.controlnets.units import steered
from sd_webui_dmm.errors import DmmStylesError
from sd_webui_dmm.painting.tiles import styled_in_tiles, tiler
from sd_webui_dmm.regions.windows import windows_of
from sd_webui_dmm.request import Request

_SAMPLING = "dmm_sampling"  # the attribute of p

NO_STYLES = "DMM styles: {} is a plain checkpoint without styles, so it paints as ever."


def follow_sampling(params: script_callbacks.CFGDenoiserParams) -> None:
    """Called before every call of the UNet."""
    denoiser = params.denoiser
    sampling = Sampling.of(denoiser.p)
    sampling.follow(denoiser.step / denoiser.total_steps)
    if sampling.error:
        shared.state.interrupt()


class Sampling:
    """Stands in for `p.sample`, which paints a batch, its hires pass and refiner included.

    However the host's sampling ends, it leaves the UNet as it was. Errors are raised from here,
    since those raised in a script's hooks are only logged.

    Every p has one. A script may paint several jobs with one p, and other extensions stand in for
    `p.sample` too, around this or within it.
    """

    def __init__(self, p: Any) -> None:
        self.error: Exception | None = None
        self._p = p
        self._stand_in: Callable[..., Any] | None = None
        self._request: Request | None = None
        self._controls: Mapping[int, Regions] = {}
        self._at_work = False
        self._hooks = ExitStack()
        self._planned: tuple[Any, ...] | None = None
        self._plan: Plan | None = None
        self._part_plans: dict[str, Plan] = {}
        self._progress = 0.0
        self._injected: Regions | None = None

    @classmethod
    def of(cls, p: Any) -> Sampling:
        sampling = vars(p).get(_SAMPLING)
        if sampling is None or sampling._p is not p:
            if sampling and vars(p).get("sample") is sampling._stand_in:
                del p.sample  # this p is a copy, which would paint as the other
            sampling = vars(p)[_SAMPLING] = cls(p)
        return sampling

    def begin_job(
        self,
        request: Request | None,
        error: Exception | None = None,
        controls: Mapping[int, Regions] | None = None,
    ) -> None:
        """From now on p paints what is requested; an error is raised in the place of sampling.

        Args:
            controls: what ControlNet units follow, by their number.
        """
        self._request, self.error, self._controls = request, error, controls or {}
        if self._stand_in is None or vars(self._p).get("sample") is not self._stand_in:
            self._stand_in = self._p.sample = partial(self._sample, self._p.sample)

    def end_job(self) -> None:
        """From now on p paints as ever."""
        self._request = self.error = None
        self._controls = {}

    def _sample(self, host_sample: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not (self._request or self._controls or self.error) or self._at_work:
            return host_sample(*args, **kwargs)
        samples, self._at_work = None, True
        try:
            with self._hooks, steered(self._p, self._controls):
                self._planned = None
                self.follow(progress=0.0)
                if not self.error:
                    samples = host_sample(*args, **kwargs)
        except DmmError as error:
            self.error = error
        finally:
            self._at_work = False
        if isinstance(self.error, DmmError):
            raise DmmStylesError(str(self.error)) from None
        if self.error:
            raise self.error
        return samples

    def follow(self, progress: float) -> None:
        """Injects the styles anew where they, the pass, its tiles or the checkpoint changed.

        Args:
            progress: of the pass, from 0 to 1.
        """
        if self.error or not (self._request and self._at_work):
            return
        self._progress = progress
        now = (loaded_file(), self._in_hires_pass, tiler(self._p))
        try:
            if now != self._planned:
                self._inject(None)
                self._planned = now
                self._plan, self._part_plans = self._plan_now(), {}
            if self._plan is not None:
                self._inject(self._plan.at(progress))
        except Exception as error:  # the host would log it, and paint without styles
            self.error = error

    @property
    def _in_hires_pass(self) -> bool:
        return getattr(self._p, "is_hr_pass", False)

    def _inject(self, regions: Regions | None) -> None:
        if regions is self._injected:
            return
        self._hooks.close()
        self._injected = regions
        if regions is None:
            return
        separate = self._request.method == SEPARATE
        inject = partial(styled, diffusion_model(), separate=separate)
        if tiler(self._p):
            self._hooks.enter_context(styled_in_tiles(self._p, inject, self._regions_of_part))
        elif regions.has_style:
            self._hooks.enter_context(inject(regions))

    def _regions_of_part(self, prompt: str) -> Regions:
        """What is painted now, over the whole picture, where a part of it has its own prompt."""
        plan = self._plan
        if tags.mix_in(prompt):
            if prompt not in self._part_plans:
                self._part_plans[prompt] = self._plan_now(prompt)
            plan = self._part_plans[prompt]
        return plan.at(self._progress)

    def _plan_now(self, part_prompt: str = "") -> Plan | None:
        styles = styles_in_use(loaded_file(), self._prompts)
        if styles is None:
            self._p.comment(NO_STYLES.format(loaded_file().name))
            return None
        check_fits(diffusion_model(), styles.family, styles.prompts.dim)
        return self._plan_of_batch(styles, part_prompt)

    @property
    def _prompts(self) -> list[str]:
        """Of the batch, in this pass."""
        p = self._p
        prompts = p.all_hr_prompts if self._in_hires_pass else p.all_prompts
        return prompts[p.iteration * p.batch_size : (p.iteration + 1) * p.batch_size]

    def _plan_of_batch(self, styles: Styles, part_prompt: str) -> Plan:
        """The styles of the batch: a prompt's tags go before the accordion's mix, and those of a
        part's own prompt before them."""
        prompts, tagged = self._prompts, tags.mix_in(part_prompt)
        mixes = [tagged or tags.mix_in(prompt) or self._request.mix for prompt in prompts]
        pictures = [*zip(mixes, cycle(windows_of(self._p)), strict=False)]
        plans = {
            (mix, window): replace(self._request, mix=mix).plan_of(styles, window)
            for mix, window in set(pictures)
        }
        if len(plans) == 1:
            return plans[pictures[0]]
        if any(" AND " in prompt for prompt in prompts):
            raise DmmError(
                "The pictures of this batch have different styles, by their <dmm:…> tags or as "
                "tiles of one picture, and their prompts have AND in them. Set the batch size to 1 "
                "(and the batch count to more)."
            )
        return PerPicture([plans[picture] for picture in pictures])
