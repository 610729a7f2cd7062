"""`bench/gpu.py`: each measurement has its limit, results are kept as they come, and the next call does the rest."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_gpu", BENCH / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_gpu"] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def test_results_are_kept_and_the_next_call_does_the_rest(bench: ModuleType, tmp_path: Path) -> None:
    file, marks = tmp_path / "results.json", tmp_path / "marks"
    once = f"open({str(marks)!r}, 'a').write('x'); print('words'); print('{{\"share\": 0.31}}')"
    goal = bench.Goal("share", lambda result: result["share"], at_least=0.3)
    jobs = [
        bench.Job("good", python(once), 20, (goal,)),
        bench.Job("bad", python("print('why'); raise SystemExit(3)"), 20),
        bench.Job("slow", python("import time; print('so far', flush=True); time.sleep(60)"), 0.3, (goal,)),
    ]
    results = bench.run_all(jobs, file, 60)
    assert json.loads(file.read_text()) == results
    assert [results[job.name]["status"] for job in jobs] == ["done", "failed with 3", "out of time"]
    assert results["slow"]["tail"] == ["so far"]
    lines = bench.table(jobs, results)
    assert lines[0].split() == ["share", ">=", "0.3", "0.31", "reached"]
    assert "bad: failed with 3" in lines
    assert any(line.split() == ["share", ">=", "0.3", "open"] for line in lines)
    again = bench.run_all([*jobs[:1], bench.Job("late", python(once), 20)], file, 0.001)
    assert marks.read_text() == "x"
    assert again["late"]["status"] == "no time left"


def test_trainings_share_what_is_left(bench: ModuleType, tmp_path: Path) -> None:
    run = tmp_path / "run-emoji"
    run.mkdir()
    code = f"import sys; open({str(run / 'log.jsonl')!r}, 'w').write('{{}}'); print(sys.argv)"
    jobs = [
        bench.Job("train emoji", python(code), 600, run=run),
        bench.Job("train fruit", python("import sys; print(sys.argv)"), 600, run=tmp_path / "run-fruit"),
    ]
    results = bench.run_all(jobs, tmp_path / "results.json", 400)
    assert results["train emoji"]["time"] == pytest.approx(400 / 2 - bench.SPARE_SECONDS, abs=1)
    assert results["train fruit"]["time"] == pytest.approx(400 - bench.SPARE_SECONDS, abs=2)
    assert "--time" in results["train emoji"]["tail"][0]
    assert results["train emoji"]["result"] == {"log": [{}]}


@pytest.mark.parametrize("tiny", [False, True])
def test_every_measurement_is_a_command_that_exists(bench: ModuleType, tmp_path: Path, tiny: bool) -> None:
    data = {"emoji": tmp_path, "fruit": tmp_path}
    jobs = [*bench.measurements("cuda", tiny=tiny), *bench.trainings(tmp_path, data, "cuda", tiny)]
    assert len({job.name for job in jobs}) == len(jobs)
    assert {goal.name for job in jobs for goal in job.goals}
    for job in jobs:
        assert job.command[1] == "-m" or Path(job.command[1]).is_file()
