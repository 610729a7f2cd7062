"""The pipeline of a folder in diffusers: network, captions and guidance are Tintype's, the samplers are diffusers'.

pipeline = DiffusionPipeline.from_pretrained("cats", custom_pipeline="cats", trust_remote_code=True)
pipeline("a black cat").images[0].save("cat.png")
"""

# No `from __future__ import annotations`: older versions of diffusers read the types of __init__ as classes.

from collections.abc import Callable, Sequence
from collections.abc import Generator as Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.errors import ConfigError, MissingExtraError
from tintype.export.diffusers.clock import Clock, denoise_sample
from tintype.export.diffusers.denoiser import TintypeDenoiser
from tintype.export.diffusers.layout import scheduler_config, write_index
from tintype.model import store
from tintype.pipeline.guided_denoiser import per_image
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.request import Request
from tintype.pipeline.start import request_sigmas, seed_noise

try:
    import diffusers
    from diffusers import DiffusionPipeline, ImagePipelineOutput, SchedulerMixin
    from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
    from diffusers.utils.torch_utils import randn_tensor
except ImportError:
    raise MissingExtraError("diffusers", "diffusers") from None

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
Callback = Callable[["TintypePipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor]]
Steps = Coroutine[tuple[int, Tensor, dict[str, Tensor]], Tensor, None]  # step, timestep, tensors; is sent the sample


class TintypePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text to pictures with a Tintype model and a scheduler of diffusers.

        pipeline = TintypePipeline.from_model("cats")
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)

    denoiser: the network with its captions. scheduler: one whose kind `Clock` knows.
    """

    _callback_tensor_inputs = ("latents", "denoised")

    def __init__(self, denoiser: TintypeDenoiser, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)
        self._interrupt, self._num_timesteps = False, 0

    @classmethod
    def from_model(cls, model: str | Path) -> "TintypePipeline":
        """Load any model that `tintype.Pipeline.load` takes, exported or not, and run no code of its folder.

        Raises CheckpointError.
        """
        files = store.find(model)
        settings = scheduler_config(store.read_config(files))
        scheduler = getattr(diffusers, settings["_class_name"]).from_config(settings)
        return cls(TintypeDenoiser.from_files(files), scheduler)

    @property
    def interrupt(self) -> bool:
        """Whether a callback has asked to stop, with `pipeline._interrupt = True`."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Evaluations of the network for the pictures that were made last."""
        return self._num_timesteps

    @property
    def noise_levels(self) -> list[float]:
        """The noise levels of the steps for the pictures that were made last, each once, then 0.

        Tintype takes them as `schedule`, and draws the same picture with its sampler of the same kind.
        """
        clock = Clock(self.scheduler)
        amounts = [clock.amounts(index) for index in range(len(self.scheduler.timesteps))]
        return [*dict.fromkeys(noise / signal for signal, noise in amounts), 0.0]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        sigmas: list[float] | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: Generator | list[Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        *,
        seeds: int | list[int] | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ) -> Any:
        """Make pictures; what is None is the model's own.

        Args:
            prompt: one caption or several.
            height: pixels, a multiple of the model's patch.
            width: likewise.
            num_inference_steps: steps of the scheduler; one of second order, such as Heun's, takes two evaluations for
                each but the last.
            sigmas: the noise levels of the steps, standard deviations of noise in pictures of -1 to 1, decreasing to 0.
            guidance_scale: of classifier-free guidance; 1 is none.
            negative_prompt: what to steer away from, one for all or one per caption.
            num_images_per_prompt: pictures of each caption.
            generator: draws the starting noise and that of schedulers which add noise; one, or one per picture.
            latents: standard normal starting noise [B, C, H, W] in place of it.
            output_type: "pil", "np" ([B, H, W, 3] from 0 to 1), "pt" ([B, 3, H, W] from 0 to 1), or "latent" (x0
                [B, C, H, W] in the space of the network, from -1 to 1).
            return_dict: False: a tuple (images,).
            callback_on_step_end: (pipeline, step, timestep, tensors) -> tensors to go on with.
            callback_on_step_end_tensor_inputs: "latents", the scheduler's sample after the step; "denoised", the
                predicted clean pictures [B, C, H, W] in the step.
            seeds: Tintype's starting noise in place of `generator`: one per picture, or one for all, of which picture i
                is the i-th. `tintype generate` with the same seed starts from the same noise.
            guidance_interval: lowest and highest noise level at which guidance acts.

        Returns an `ImagePipelineOutput`, or a tuple. Raises ConfigError for an option that cannot work.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        _require_outputs(output_type, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        if seeds is not None and (generator is not None or latents is not None):
            raise ConfigError("give either seeds, or a generator or latents")
        tintype, clock = self._tintype(), Clock(self.scheduler)
        request = tintype.request(
            [caption for caption in _listed(prompt) for _ in range(num_images_per_prompt)],
            seeds=seeds,
            width=width,
            height=height,
            guidance=guidance_scale,
            guidance_interval=guidance_interval,
            steps=num_inference_steps,
            schedule=sigmas,
        )
        negatives = [text for text in _listed(negative_prompt or "") for _ in range(num_images_per_prompt)]
        told = sigmas is not None or clock.takes_levels
        levels = request_sigmas(request, tintype.config.noise).tolist() if told else None
        clock.start(request.steps, levels, self._execution_device)
        noise = self._noise(tintype, request, seeds is not None, generator, latents)
        if seeds is not None:
            generator = _generators(request)
        steps = self._steps(clock, _denoise(tintype, request, negatives), noise, generator)
        sample = self._finish(steps, callback_on_step_end, callback_on_step_end_tensor_inputs)
        images = _images(tintype, sample, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _steps(
        self, clock: Clock, denoise: Denoise, noise: Tensor, generator: Generator | list[Generator] | None
    ) -> Steps:
        """Run the scheduler from standard normal noise; is sent the sample to go on with after each step."""
        config = self.denoiser.denoiser.config.noise
        options = clock.step_options(generator)
        sample = clock.amounts(0).noise * noise
        for index, timestep in enumerate(self.scheduler.timesteps):
            amounts = clock.amounts(index)
            if clock.explodes:
                self.scheduler.scale_model_input(sample, timestep)  # `step` warns without it; its answer is not needed
            denoised = denoise_sample(denoise, sample, amounts, (config.sigma_min, config.sigma_max))
            output = clock.output(sample, denoised, amounts)
            sample = self.scheduler.step(output, timestep, sample, return_dict=False, **options)[0]
            sample = yield index, timestep, {"latents": sample, "denoised": denoised}

    def _finish(self, steps: Steps, callback: Any, wanted: Sequence[str]) -> Tensor:
        """Run all steps, or until a callback interrupts; returns the last sample [B, C, H, W]."""
        self._interrupt, self._num_timesteps = False, len(self.scheduler.timesteps)
        with self.progress_bar(total=self._num_timesteps) as progress:
            index, timestep, tensors = next(steps)
            while True:
                sample = tensors["latents"]
                if callback is not None:
                    answer = callback(self, index, timestep, {name: tensors[name] for name in wanted})
                    sample = (answer or {}).get("latents", sample)
                progress.update()
                if self._interrupt:
                    return sample
                try:
                    index, timestep, tensors = steps.send(sample)
                except StopIteration:
                    return sample

    def save_pretrained(self, save_directory: str | Path, safe_serialization: bool = True) -> None:
        """Write a folder of the same form: a model folder that diffusers runs, with this scheduler.

        Raises ConfigError for safe_serialization False: weights are never pickled.
        """
        if not safe_serialization:
            raise ConfigError("weights are stored as safetensors only; leave safe_serialization out")
        folder = Path(save_directory)
        self.denoiser.save_pretrained(folder)
        self.scheduler.save_pretrained(folder / "scheduler")
        write_index(folder, type(self.scheduler).__name__)

    def _tintype(self) -> Pipeline:
        """Tintype's pipeline of the denoiser, where it is now. Raises ConfigError in half precision."""
        if self.denoiser.dtype != torch.float32:
            raise ConfigError("this model computes in float32; undo the change with pipeline.to(torch.float32)")
        return Pipeline(self.denoiser.denoiser)

    def _noise(
        self,
        tintype: Pipeline,
        request: Request,
        seeded: bool,
        generator: Generator | list[Generator] | None,
        latents: Tensor | None,
    ) -> Tensor:
        """Standard normal starting noise [B, C, H, W], of the request's seeds if `seeded`. Raises ConfigError."""
        factor, device = tintype.codec.factor, self._execution_device
        shape = (tintype.codec.channels, request.height // factor, request.width // factor)
        if seeded:
            return seed_noise(request, shape).to(device)
        if isinstance(generator, list) and len(generator) != len(request):
            raise ConfigError(f"there are {len(generator)} generators for {len(request)} pictures; give one for each")
        if latents is None:
            noise: Tensor = randn_tensor((len(request), *shape), generator=generator, device=device)
            return noise
        if tuple(latents.shape) != (len(request), *shape):
            raise ConfigError(f"latents must be {(len(request), *shape)}, not {tuple(latents.shape)}")
        return latents.to(device, torch.float32)


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _generators(request: Request) -> list[Generator]:
    """Generators for schedulers that add noise, so that a seed has one picture with them too."""
    numbers = zip(request.seeds, request.indices, strict=True)
    return [Generator().manual_seed((seed + index) % 2**63) for seed, index in numbers]


def _denoise(tintype: Pipeline, request: Request, negatives: list[str]) -> Denoise:
    """The denoiser of all pictures; where negative prompts differ, one picture at a time. Raises ConfigError."""
    if len(set(negatives)) == 1:
        return tintype.denoise(replace(request, negative_prompt=negatives[0]))
    if len(negatives) != len(request):
        raise ConfigError("give one negative_prompt, or one for each prompt")
    parts = zip(request.parts(1), negatives, strict=True)
    return per_image([tintype.denoise(replace(part, negative_prompt=text)) for part, text in parts])


def _require_outputs(output_type: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    if output_type not in OUTPUT_TYPES:
        raise ConfigError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            f"callback_on_step_end_tensor_inputs may have {' and '.join(known)}, not {', '.join(unknown)}"
        )


def _images(tintype: Pipeline, x0: Tensor, output_type: str) -> Any:
    """The finished pictures in the form that was asked for. Raises TintypeError for NaN or infinity."""
    if output_type == "latent":
        return x0
    if output_type == "pil":
        return tintype.pictures(x0)
    pictures = tintype.codec.decode(x0).float() / 255
    return pictures if output_type == "pt" else pictures.permute(0, 2, 3, 1).cpu().numpy()
