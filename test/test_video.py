"""Videos for people: frames side by side, and a GIF that a page can bear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poco_ros.video import GIF_WIDTH, side_by_side, write_gif


@pytest.mark.parametrize("width", [200, 2 * GIF_WIDTH])
def test_a_gif_keeps_its_frames_and_shape_and_is_not_too_wide(width: int, tmp_path: Path) -> None:
    shades = (40, 120, 200)
    frames = [np.full((100, width, 3), shade, np.uint8) for shade in shades]
    write_gif(frames, tmp_path / "a.gif", 5.0)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (min(width, GIF_WIDTH), round(100 * min(1.0, GIF_WIDTH / width)))
        assert gif.info["duration"] == 200
        for index, shade in enumerate(shades):
            gif.seek(index)
            np.testing.assert_allclose(np.asarray(gif.convert("RGB")), shade, atol=4)
        with pytest.raises(EOFError):
            gif.seek(len(shades))


def test_the_shorter_half_waits_for_the_longer() -> None:
    left = [np.full((4, 6, 3), shade, np.uint8) for shade in (1, 2, 3)]
    right = [np.full((4, 6, 3), 9, np.uint8)]
    both = side_by_side(left, right)
    assert len(both) >= 3 and len({frame.shape for frame in both}) == 1
    assert all((frame[:, :6] == shade).all() and (frame[:, -6:] == 9).all()
               for frame, shade in zip(both, (1, 2, 3), strict=False))
