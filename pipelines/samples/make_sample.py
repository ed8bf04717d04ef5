#!/usr/bin/env python3
"""Makes aluminum_pan.mp4: a line-scan camera's view of aluminium sheet that moves past it.

Not needed to build or to run anything; it is kept so that the clip can be made again and so that it is known what was done to the
pictures. Wants Python 3 with NumPy and Pillow, and gst-launch-1.0 with x264enc (gstreamer1.0-plugins-ugly).

    python3 make_sample.py DIR aluminum_pan.mp4

DIR holds 132.jpg, 296.jpg and 339.jpg, 1280 x 1024 pixels, of the aluminium surface defects by Tang, figshare 27778473, CC BY 4.0.

Pieces of the sheets, 640 columns wide and scaled to 512, are flat-fielded (as a line-scan rig does: the slow changes of the lighting are
taken out), turned where PIECES says so and faded into one another to a strip. Frame k shows rows [8k, 8k + 512): 25 frames a second.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SIZE, LINES_A_FRAME, FPS, FRAMES = 512, 8, 25, 350
FADE = 96
# (picture, left column, top row, bottom row, mirrored left to right, turned upside down)
PIECES = [
    ("339.jpg", 640, 330, 1024, True, True),
    ("132.jpg", 640, 330, 1024, False, False),
    ("296.jpg", 240, 160, 1024, False, False),
    ("339.jpg", 640, 330, 1024, True, False),
    ("132.jpg", 120, 0, 700, False, True),
    ("339.jpg", 640, 330, 1024, False, True),
    ("339.jpg", 60, 0, 620, True, False),
]


def flat_field(picture):
    """Float pixels with the lighting's slow changes replaced by the mean colour."""
    pixels = np.asarray(picture, np.float32)
    light = np.asarray(picture.filter(ImageFilter.GaussianBlur(110)), np.float32)
    return pixels / light * np.array([98, 112, 150], np.float32)


def piece(directory, name, left, top, bottom, mirrored, turned):
    with Image.open(directory / name) as source:
        pixels = flat_field(source.convert("RGB"))[top:bottom, left : left + 640]
    rows = round(pixels.shape[0] * SIZE / 640)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((SIZE, rows), Image.Resampling.LANCZOS)
    out = np.asarray(image, np.float32)
    out = out[:, ::-1] if mirrored else out
    return out[::-1] if turned else out


def join(pieces):
    """One strip; each piece's first FADE rows are blended into the last ones of the piece before."""
    strip = pieces[0]
    share = np.linspace(0, 1, FADE, dtype=np.float32)[:, None, None]
    for following in pieces[1:]:
        seam = strip[-FADE:] * (1 - share) + following[:FADE] * share
        strip = np.concatenate([strip[:-FADE], seam, following[FADE:]])
    return strip.clip(0, 255).astype(np.uint8)


def main():
    directory, out = Path(sys.argv[1]), sys.argv[2]
    strip = join([piece(directory, *which) for which in PIECES])
    needed = (FRAMES - 1) * LINES_A_FRAME + SIZE
    if len(strip) < needed:
        sys.exit(f"the strip has {len(strip)} rows, {needed} are needed")
    command = (
        f"gst-launch-1.0 -q fdsrc fd=0 ! rawvideoparse format=rgb width={SIZE} height={SIZE} framerate={FPS}/1"
        " ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! x264enc pass=quant quantizer=23 speed-preset=veryslow key-int-max=50"
        " ! video/x-h264,profile=high ! h264parse ! mp4mux faststart=true"
    ).split() + ["!", "filesink", f"location={out}"]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    for first in range(0, FRAMES * LINES_A_FRAME, LINES_A_FRAME):
        encoder.stdin.write(strip[first : first + SIZE].tobytes())
    encoder.stdin.close()
    sys.exit(encoder.wait())


if __name__ == "__main__":
    main()
