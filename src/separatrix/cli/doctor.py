"""`separatrix doctor`: does this installation work, and how fast is it?"""

import os
import time
import uuid

import numba
import torch
import tyro
from rich.console import Console
from rich.table import Table

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.provenance import versions
from separatrix.envs.core.actions import draw_actions
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.steppers.kernel_cache import cache_directory
from separatrix.envs.steppers.ode_system import choose_backend

BATCH = 1024
SECONDS = 0.3
"""Each environment is stepped for about this long on each backend, after one warm-up step."""


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(doctor, args=arguments, prog="separatrix doctor")


def doctor() -> int:
    """Print versions and devices, try the kernel cache, and step every environment.

    The exit code is 1 if anything fails.
    """
    console = Console()
    for name, value in versions().items():
        console.print(f"{name}: {value or 'none'}", highlight=False, soft_wrap=True)
    console.print(f"threads: torch {torch.get_num_threads()}, numba {numba.get_num_threads()}")
    failures = _try_cache(console)
    table = Table(title=f"environment steps a second, in batches of {BATCH}")
    backends = [("numba", "cpu"), ("torch", "cpu"), ("mujoco", "cpu")]
    if torch.cuda.is_available():
        fused = choose_backend("auto", torch.device("cuda"))
        backends += [(backend, "cuda") for backend in dict.fromkeys((fused, "torch"))]
    table.add_column("environment")
    for backend, device in backends:
        table.add_column(f"{backend} on {device}", justify="right")
    with console.status("stepping every environment; the first time compiles its kernels"):
        for environment_id, entry in REGISTRY.items():
            cells = []
            for backend, device in backends:
                if backend not in entry.backends:
                    cells.append("-")
                    continue
                try:
                    cells.append(f"{measure(environment_id, backend, device):,.0f}")
                except Exception as error:
                    failures.append(f"{environment_id} with {backend} on {device}: {error!r}")
                    cells.append("failed")
            table.add_row(environment_id, *cells)
    console.print(table)
    for failure in failures:
        console.print(f"failed: {failure}", style="red", highlight=False, soft_wrap=True)
    console.print("everything works" if not failures else f"{len(failures)} failures")
    return 1 if failures else 0


def measure(environment_id: str, backend: str, device: str) -> float:
    """Step an environment with random actions.

    Args:
        environment_id: Registered id.
        backend: Backend of its stepper.
        device: A torch device.

    Returns:
        Environment steps a second.

    Raises:
        FloatingPointError: If an observation or reward is not finite.
    """
    environment = make_environment(environment_id, BATCH, device=device, backend=backend)
    generator = torch.Generator().manual_seed(0)
    action = draw_actions(environment, BATCH, generator).to(environment.device)
    with torch.no_grad():
        state, _ = environment.reset(0)
        state, observation, reward, _, _ = environment.step(state, action)  # compiles
        steps, start = 0, _now(device)
        while (elapsed := _now(device) - start) < SECONDS:
            state, observation, reward, _, _ = environment.step(state, action)
            steps += 1
    if not (observation.isfinite().all() and reward.isfinite().all()):
        raise FloatingPointError("an observation or a reward is not finite")
    return steps * BATCH / elapsed


def _now(device: str) -> float:
    """Time in seconds when all work handed to the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _try_cache(console: Console) -> list[str]:
    """Write, read and remove a file where compiled kernels are kept."""
    folder = cache_directory()
    path = folder / f"doctor_{os.getpid()}.txt"
    text = uuid.uuid4().hex
    try:
        path.write_text(text)
        found = path.read_text()
        path.unlink()
    except OSError as error:
        return [f"kernel cache {folder}: {error}"]
    if found != text:
        return [f"kernel cache {folder}: read {found!r} where {text!r} was written"]
    console.print(f"kernel cache: {folder}", highlight=False, soft_wrap=True)
    return []
