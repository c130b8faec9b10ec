"""Spectral solvers and environments of others, in processes of their own.

They need packages that do not go together: controlgym takes Gymnasium 0.29.1 alone, and HydroGym's
environment does not run with gymnax 1. So each has a virtual environment in `.venv-peers`, or in
the folder that SPECTRAL_PEERS names, and is left out where that is not there:

    python -m venv .venv-peers/controlgym
    .venv-peers/controlgym/bin/pip install controlgym==1.0.0
    python -m venv .venv-peers/jax
    .venv-peers/jax/bin/pip install jax exponax jax-cfd
    python -m venv .venv-peers/hydrogym
    .venv-peers/hydrogym/bin/pip install "hydrogym[jax]==1.0.0" "gymnax<1"

`Peer` asks, one line of JSON at a time; spectral_process.py answers.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from spectral_timing import Ways

FOLDER = Path(os.environ.get("SPECTRAL_PEERS", ".venv-peers"))
PROCESS = Path(__file__).with_name("spectral_process.py")


class MissingPeer(RuntimeError):
    """A peer is not set up, or does not run; the message says why."""


class Peer:
    """Another library in a process of its own.

    Args:
        name: Of the virtual environment.
        threads: How many cores it may use.
        dtype: What JAX computes in.

    Raises:
        MissingPeer: It is not set up.
    """

    def __init__(self, name: str, threads: int, dtype: str = "float64") -> None:
        python = FOLDER / name / "bin" / "python"
        if not python.exists():
            raise MissingPeer(f"{name}: no virtual environment of that name, see spectral_peers.py")
        wide, cores = str(int(dtype == "float64")), str(threads)
        variables = {**os.environ, "JAX_ENABLE_X64": wide, "JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            [python, PROCESS, name, cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=variables | {"OMP_NUM_THREADS": cores, "OPENBLAS_NUM_THREADS": cores},
        )

    def ask(self, **request: Any) -> Any:
        """Returns the answer to a request.

        Raises:
            MissingPeer: It failed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise MissingPeer("the process ended") from None
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise MissingPeer(str(answer["error"]).replace(str(FOLDER), ""))
        return answer["value"]

    def way(self, kind: str, batch: int, **setting: Any) -> tuple[Callable[[], Any], int]:
        """Returns what advances a batch by some control intervals, and by how many."""
        key, calls = self.ask(make=kind, batch=batch, **setting)
        return lambda: self.ask(run=key), calls

    def advance(self, kind: str, fields: np.ndarray, **setting: Any) -> np.ndarray:
        """Returns what fields (batch, *grid) become in one control interval."""
        return np.array(self.ask(advance=kind, fields=fields.tolist(), **setting))

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


class Others:
    """The libraries of others, each started when first needed, and what was missing.

    Args:
        threads: Each may use.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._running: dict[tuple[str, str], Peer] = {}
        self.missing: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}

    def ask(
        self, name: str, method: str, kind: str, *given: Any, dtype: str, **options: Any
    ) -> Any:
        """Calls a method of a peer; returns None, and notes why, if that cannot be."""
        try:
            if (name, dtype) not in self._running:
                self._running[name, dtype] = Peer(name, self._threads, dtype)
            peer = self._running[name, dtype]
            self.versions[name] = peer.ask(versions=True)
            return getattr(peer, method)(kind, *given, **options)
        except MissingPeer as reason:
            if kind not in self.missing:
                print(f"{kind} left out: {reason}")
            self.missing[kind] = str(reason)
            return None

    def add(self, ways: Ways, label: str, name: str, kind: str, **options: Any) -> None:
        """Adds what times a peer to the ways, unless it is missing."""
        found = self.ask(name, "way", kind, **options)
        if found is not None:
            ways[label] = found

    def close(self) -> None:
        """Ends all processes."""
        for peer in self._running.values():
            peer.close()
        self._running = {}
