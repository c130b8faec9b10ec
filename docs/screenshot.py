"""Takes the README's picture of TensorBoard: `python docs/screenshot.py runs`.

Starts TensorBoard on a folder of runs, opens its time series in a headless Chromium, which has to
be installed (`apt-get install chromium`), and writes `docs/pictures/tensorboard.png`. The picture
in the repository shows what these left:

    separatrix train lorenz_ppo --seed 0 --evaluation.every 8192
    separatrix train lorenz_ppo --seed 1 --evaluation.every 8192
    separatrix train lorenz_ppo --seed 2 --evaluation.every 8192
"""

import argparse
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from PIL import Image

PICTURE = Path(__file__).resolve().parent / "pictures" / "tensorboard.png"
WIDTH, HEIGHT = 1400, 1010
TAGS = "eval/return|eval/on_target|env/distance|train/explained_variance"
PATIENCE = 60.0  # seconds until the server answers
COLOURS = 128


def main() -> None:
    """Serves the runs, takes the picture, and stops the server."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("logdir", type=Path, help="folder of the runs")
    parser.add_argument("--output", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("chromium was not found; install it, such as with apt-get install chromium")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = ("--logdir", str(arguments.logdir), "--host", "localhost", "--port", str(port))
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *options])
    try:
        address = f"http://localhost:{port}"
        _wait_for(f"{address}/data/plugin/scalars/tags")
        image = _capture(chromium, f"{address}/?smoothing=0&tagFilter={TAGS}#timeseries")
    finally:
        server.kill()
        server.wait()
    arguments.output.parent.mkdir(exist_ok=True)
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(arguments.output, optimize=True)
    print(f"wrote {arguments.output}, {arguments.output.stat().st_size} bytes")


def _wait_for(address: str) -> None:
    """Waits until TensorBoard has read a run."""
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with opener.open(address, timeout=10) as answer:
                if len(answer.read()) > len("{}"):
                    time.sleep(5)  # the other runs
                    return
        except OSError:
            pass
        time.sleep(0.5)
    sys.exit(f"TensorBoard did not answer within {PATIENCE:.0f} s")


def _capture(chromium: str, address: str) -> Image.Image:
    """Opens a page, lets its scripts run for some time of their own, and takes its picture."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.png"
        options = (
            "--headless=new",
            "--no-sandbox",
            "--hide-scrollbars",
            "--no-proxy-server",
            f"--user-data-dir={folder}/profile",
            f"--window-size={WIDTH},{HEIGHT}",
            "--disable-3d-apis",  # the charts are then SVG, which is in the picture
            "--virtual-time-budget=60000",
            f"--screenshot={file}",
        )
        subprocess.run([chromium, *options, address], check=True, timeout=120)
        return Image.open(io.BytesIO(file.read_bytes())).convert("RGB")


if __name__ == "__main__":
    main()
