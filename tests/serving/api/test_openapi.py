"""Whatever the API's own description allows, and what it does not: never an answer of 5xx."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.serving.conftest import live

pytestmark = pytest.mark.slow
schemathesis = pytest.importorskip("schemathesis", reason="needs the extra fuzz")


def test_no_request_makes_the_server_fail(tiny_model: Path) -> None:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from schemathesis import GenerationMode

    with live(tiny_model, max_steps=3, max_pixels=32 * 32, a1111=True) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        operations = [operation.ok() for operation in schema.get_all_operations()]
        assert len(operations) >= 15
        for operation in operations:
            cases = [
                operation.as_strategy(generation_mode=mode)
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            ]

            @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=st.one_of(cases))
            def check(case):  # type: ignore[no-untyped-def]
                answer = case.call(timeout=30)
                assert answer.status_code < 500 or answer.status_code == 501, (case.as_curl_command(), answer.text)

            check()
        assert server.engine.alive
