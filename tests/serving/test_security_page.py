"""The page on security has the limits that stand in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tintype.data.images.decode import MAX_PIXELS
from tintype.data.images.png import MAX_PROFILE_BYTES
from tintype.data.sources.captions import MAX_CAPTION_BYTES
from tintype.data.sources.files import MAX_BYTES
from tintype.data.sources.find import MAX_LIST_BYTES
from tintype.data.sources.remote import MAX_EXPANDED
from tintype.data.sources.tar_members import MAX_HEADER_BYTES
from tintype.export.importing import packed
from tintype.model import read_file
from tintype.model.nets.encoder_files import MAX_GROWTH, MAX_JSON_BYTES, MAX_LAYERS
from tintype.model.nets.text import MAX_UNSAVED
from tintype.model.nets.tokens import MAX_VOCABULARY
from tintype.pipeline.receipt import MAX_GRID, MAX_NAME
from tintype.serving import exporter
from tintype.serving.api import app, connection, decoding, denoise, guard, inspection, job_store, jobs, transport, turns
from tintype.serving.api.keys import MIN_KEY_LENGTH
from tintype.serving.engine.job import MAX_FRAME_BYTES
from tintype.serving.engine.queue import KEY_SHARE
from tintype.serving.settings import MAX_PICTURES, Settings
from tintype.training.monitor.log_rows import MAX_ROW_BYTES, MAX_ROWS

PAGE = re.sub(r"\s+", " ", (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8"))
KIB, MIB, GIB = 2**10, 2**20, 2**30
S = Settings()
ROWS = [
    f"one data file; one picture | {MAX_BYTES // MIB} MB; {MAX_PIXELS // 10**6} million pixels",
    f"a list of sources | {MAX_LIST_BYTES // MIB} MiB",
    f"all captions of one picture | {MAX_CAPTION_BYTES // MIB} MB",
    f"one header in a tar file | {MAX_HEADER_BYTES // MIB} MB",
    f"names that one pattern stands for | {MAX_EXPANDED:,}",
    f"a color profile | {MAX_PROFILE_BYTES // MIB} MiB",
    f"`tokenizer.json` | {read_file.MAX_CONFIG_BYTES // MIB} MiB; {read_file.MAX_TOKENIZER_BYTES // MIB} MiB",
    f"tokens of a learned vocabulary | {MAX_VOCABULARY:,}",
    f"its layers | {MAX_JSON_BYTES // MIB} MiB each; {MAX_LAYERS}",
    f"four times those in its file, and {MAX_UNSAVED // 10**6} million",
    f"after its normalizers | {MAX_GROWTH} times",
    f"the newest {read_file.MAX_LOG_BYTES // MIB} MiB; {MAX_ROWS:,}; {MAX_ROW_BYTES // MIB} MiB; "
    f"{read_file.MAX_RECORD_BYTES // GIB} GiB",
    f"its captions | {read_file.MAX_SAMPLE_BYTES // MIB} MiB; {read_file.MAX_CAPTIONS_BYTES // MIB} MiB",
    f"entries in it | {packed.MAX_PAGE_BYTES // GIB} GiB; {packed.MAX_HEAD_BYTES // MIB} MiB; {packed.MAX_ENTRIES:,}",
    f"when they are unpacked | {packed.MAX_GROWTH} times",
    f"its noise levels | {MAX_NAME} characters; {MAX_GRID:,} characters",
    f"waiting and running | {S.deadline:g} s",
    f"a number in a noisy picture | {denoise.DENOISE_SECONDS:g} s; {denoise.MAX_VALUE / 10**6:g} million",
    f"of one address that sends no key | {S.max_connections}; {S.max_connections_per_client}",
    f"open requests of one key | {S.max_waiting} (`--max-waiting`); {S.max_open_per_key}",
    f"decoded at once; of one client | {decoding.PLACES}; {decoding.PLACES_OF_CLIENT}",
    f"wait for it; of one client | {decoding.MAX_OPEN}; {decoding.MAX_OPEN_OF_CLIENT}",
    f"a form | {S.max_json // KIB} KiB; {S.max_base64 // MIB} MiB; {S.max_form // MIB} MiB",
    f"not ASCII | {S.max_json_values:,}; {guard.MAX_ESCAPES:,}; {guard.MAX_NOT_ASCII // MIB} MiB",
    f"a body in chunks | 16 KiB; {connection.MAX_FRAMING // KIB} KiB and a quarter of the content",
    f"steps | {MAX_PICTURES}; {S.max_steps} (`--max-steps`)",
    f"frames of one job | {MAX_FRAME_BYTES // MIB} MiB",
    f"films that are made or wait for it; of one client | {jobs.MAX_OPEN_FILMS}; {jobs.MAX_OPEN_FILMS_OF_CLIENT}",
    f"films that are kept | {jobs.MAX_FILM_PIXELS // 10**6} million; {jobs.MAX_KEPT_FILM_BYTES // MIB} MiB",
    f"weights of a model that is exported | 1; {exporter.SECONDS:g} s; {exporter.MAX_WEIGHTS_BYTES // GIB} GiB",
    f"repeated requests included | {S.kept_jobs}, {S.kept_minutes:g} minutes, {job_store.MAX_KEPT_BYTES // MIB} MiB",
    f"at least {MIN_KEY_LENGTH} characters",
    f"dropped, for {transport.LINGER_SECONDS:g} s and at most {transport.MAX_DROPPED // MIB} MiB",
    f"parses for {turns.TURN_SECONDS * 1000:g} ms",
]


@pytest.mark.parametrize("row", ROWS)
def test_the_page_has_the_limit(row: str) -> None:
    assert row in PAGE


def test_limits_that_are_told_in_words() -> None:
    assert {S.head_seconds, S.body_seconds, S.write_seconds} == {30}
    assert (app.QUEUE_COST, KEY_SHARE) == (8, 0.5)
    assert exporter.KEPT_SECONDS == 600
    assert inspection.SWEEP_SECONDS == denoise.DENOISE_SECONDS
