"""Records the video of the page on bodies in a stream: `python docs/video.py`."""

from pathlib import Path

from PIL import Image

from separatrix.controllers.catalog import make_controller
from separatrix.controllers.recording import record_frames
from separatrix.envs.core.registration import make_environment

SECOND = 12  # frames
COLOURS = 32


def main() -> None:
    """Writes an animated picture of an episode under feedback of the lift."""
    environment = make_environment("RotaryCylinder-v0", horizon=96)
    controller = make_controller("lift_feedback", environment)
    frames = record_frames(environment, controller, 0)[::2, ::2, ::2]
    first, *others = (
        Image.fromarray(frame).quantize(COLOURS, dither=Image.Dither.NONE) for frame in frames
    )
    path = Path(__file__).resolve().parent / "pictures" / "rotary_cylinder.gif"
    first.save(path, save_all=True, append_images=others, duration=1000 / SECOND, loop=0)
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
