"""Answers as A1111 gives them: pictures in base64, `parameters`, and `info`, which is JSON in a text."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Any

from tintype._version import __version__
from tintype.pipeline.receipt import Receipt
from tintype.pipeline.sizes import parse_enlarge
from tintype.serving.api.a1111.bodies import Img2ImgBody, Txt2ImgBody, cfg_scale_of
from tintype.serving.api.a1111.names import sampler_label
from tintype.serving.api.dispatcher import warning
from tintype.serving.engine.engine import Engine
from tintype.serving.engine.job import GenerateTask, Job


def answer(job: Job, task: GenerateTask, body: Txt2ImgBody, files: list[bytes]) -> bytes:
    """The answer of txt2img and img2img, written picture by picture: one call for all would block the event loop.

    files: the pictures, encoded.
    """
    parameters = body.model_dump(mode="json", exclude={"include_init_images"})
    if isinstance(body, Img2ImgBody) and not body.include_init_images:
        parameters |= {"init_images": None, "mask": None}
    images = ",".join(f'"{base64.b64encode(file).decode()}"' for file in files)
    rest = {"parameters": parameters, "info": json.dumps(_info(job, task, body))}
    return f'{{"images":[{images}],{json.dumps(rest)[1:]}'.encode()


def _info(job: Job, task: GenerateTask, body: Txt2ImgBody) -> dict[str, Any]:
    request, pipeline = task.request, task.pipeline
    receipts = pipeline.receipts(request)
    own = pipeline.config.sample.guidance
    width, height = parse_enlarge(request.enlarge) if request.enlarge else task.size
    cfg_scale = cfg_scale_of(request.guidance[0], own) if body.cfg_scale is None else body.cfg_scale
    num = len(request)
    return {
        "prompt": request.captions[0],
        "all_prompts": list(request.captions),
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * num,
        "seed": request.seeds[0],
        "all_seeds": list(request.seeds),
        "subseed": request.seeds[0],
        "all_subseeds": list(request.seeds),
        "subseed_strength": 0,
        "width": width,
        "height": height,
        "sampler_name": sampler_label(receipts[0].sampler),
        "cfg_scale": cfg_scale,
        "steps": request.steps,
        "batch_size": body.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": pipeline.name,
        "sd_model_hash": pipeline.model_hash[:10],
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": request.strength if request.init_image is not None else None,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [infotext(receipt, own) for receipt in receipts],
        "styles": [],
        "job_timestamp": _timestamp(),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": f"tintype {__version__}",
        **({"warning": text} if (text := warning(job)) else {}),
    }


def infotext(receipt: Receipt, own_guidance: float) -> str:
    """A receipt in the terms of A1111's requests: a client that sends these values again gets the same picture."""
    if receipt.enlarge:
        width, height = parse_enlarge(receipt.enlarge)
        receipt = replace(receipt, width=width, height=height, enlarge="")
    cfg_scale = cfg_scale_of(receipt.guidance, own_guidance)
    return replace(receipt, guidance=cfg_scale, sampler=sampler_label(receipt.sampler)).parameters()


def progress(jobs: list[Job], engine: Engine) -> dict[str, Any]:
    """The progress of the first of a client's open jobs, but for its picture."""
    job = jobs[0] if jobs else None
    step = 0 if job is None else job.index + 1
    total = 0 if job is None else job.total
    return {
        "progress": 0.0 if job is None else max(0.01, min(1.0, step / total if total else 0.0)),
        "eta_relative": 0.0 if job is None else round(engine.seconds_left(job) or 0.0, 2),
        "state": {
            "skipped": False,
            "interrupted": job is not None and job.cancelled.is_set(),
            "stopping_generation": False,
            "job": "" if job is None else "scripts_txt2img",
            "job_count": len(jobs),
            "job_timestamp": _timestamp(),
            "job_no": 0,
            "sampling_step": step,
            "sampling_steps": total,
        },
        "current_image": None,
        "textinfo": None,
    }


def _timestamp() -> str:
    return time.strftime("%Y%m%d%H%M%S")
