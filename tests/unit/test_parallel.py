"""The same work on cores and on a real Dask cluster of two workers, one of them killed on the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus_helpers import collect_settings, sources_file, write_hymns

from plagal.corpus.collect import collect
from plagal.plumbing.errors import CorpusError
from plagal.plumbing.files import is_alive
from plagal.plumbing.workers import Workers
from waiting import wait_until


def slowly_squared(number: int, log: str) -> int:
    """Leaves a line in a log, so that the test sees what was done where."""
    time.sleep(0.02)
    with Path(log).open("a") as handle:
        handle.write(f"{os.getpid()}\n")
    return number * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_calls(tmp_path: Path, jobs: int):
    calls = ((number, str(tmp_path / "log")) for number in range(40))
    with Workers(jobs) as workers:
        assert list(workers.map(slowly_squared, calls, 40, "test")) == [n * n for n in range(40)]


def test_calls_are_drawn_only_a_little_ahead(tmp_path: Path):
    drawn = []

    def calls() -> Iterator[tuple[int, str]]:
        for number in range(1000):
            drawn.append(number)
            yield number, str(tmp_path / "log")

    with Workers(1) as workers:
        results = workers.map(slowly_squared, calls(), 1000, "test")
        next(results)
        assert len(drawn) < 20


def die(number: int) -> int:
    if number == 20:
        os._exit(1)
    return number


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_a_worker_that_dies_is_told_in_one_line():
    with pytest.raises(CorpusError, match="a worker process died"), Workers(2) as workers:
        list(workers.map(die, ((number,) for number in range(40)), 40, "test"))


class Cluster:
    """A scheduler and two workers, processes of their own on loopback."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self._folder = folder
        self._environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        self.workers = [
            self._start(
                "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                "--local-directory", str(folder),
            )
            for _ in range(2)
        ]  # fmt: skip

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        with (self._folder / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def wait(self) -> None:
        from distributed import Client

        with Client(self.address, timeout=180) as client:
            client.wait_for_workers(2, timeout=180)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    running = Cluster(tmp_path)
    try:
        running.wait()
        yield running
    finally:
        running.stop()


@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_on_the_way_loses_and_doubles_nothing(cluster: Cluster, tmp_path: Path):
    log = tmp_path / "log"
    write_hymns(tmp_path / "gospel", range(24))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    settings = collect_settings(sources, 24, {"gospel": 24})
    results = []
    with Workers(scheduler=cluster.address) as workers:
        for result in workers.map(slowly_squared, ((n, str(log)) for n in range(120)), 120, "test"):
            results.append(result)
            if len(results) == 30:
                cluster.workers[0].send_signal(signal.SIGKILL)
        assert results == [n * n for n in range(120)]
        at_work = set(log.read_text().split())
        assert {str(worker.pid) for worker in cluster.workers} == at_work
        collect("stage1", settings, tmp_path / "cluster", 1, workers)
    collect("stage1", settings, tmp_path / "alone", 1, Workers(1))
    for file in (tmp_path / "alone").iterdir():
        assert (tmp_path / "cluster" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("plagal.plumbing.workers._CONNECT_SECONDS", 1)
    with (
        pytest.raises(CorpusError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"),
        Workers(scheduler="tcp://127.0.0.1:9") as workers,
    ):
        list(workers.map(slowly_squared, [(1, "x")], 1, "test"))


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    script = (
        "import os, sys; from plagal.plumbing.workers import Workers\n"
        "with Workers(2) as pool:\n"
        "    pids = set(pool.map(__import__('test_parallel').pid_of, [(n,) for n in range(64)], 64, 'x'))\n"
        "    print(*pids, flush=True); os.kill(os.getpid(), 9)"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    workers = [int(pid) for pid in done.stdout.split()]
    assert workers
    wait_until(lambda: not any(map(is_alive, workers)), seconds=20)


def pid_of(number: int) -> int:
    return os.getpid()
