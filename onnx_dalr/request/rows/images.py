"""How pixels become the model's input."""

from __future__ import annotations

from pathlib import Path

from onnx_dalr.request.option import IMAGES as GROUP
from onnx_dalr.request.option import RUNS, SHARED, Option
from onnx_dalr.request.values import image_crop, image_size, number, numbers

_FUNCTIONS = ("optimize", SHARED, "compare")
_COMMANDS = (*RUNS, "compare")

IMAGES = (
    Option(
        name="preset",
        type="str | None",
        text='Image settings by name, "imagenet", "tf", "caffe", …; what is given beside it goes first.',
        functions=_FUNCTIONS,
        help="imagenet, tf, caffe, clip, unit, raw, …: fills in the rest.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="NAME",
        words="onnx_dalr.samples.images.presets:PRESETS",
    ),
    Option(
        name="resize",
        type="tuple[int, int] | int | None",
        text="Image height and width; before a crop, one number is the shorter side.",
        functions=_FUNCTIONS,
        help="Size in pixels [default: the model's]; before --crop, N is the shorter side.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="HxW|N",
        read=image_size,
    ),
    Option(
        name="crop",
        type="tuple[int, int] | float | str | None",
        text='The middle of the image: (height, width), "center" for the model\'s size, or a fraction such as 0.875.',
        functions=_FUNCTIONS,
        help="Cut out the middle: so many pixels, the model's size, or a fraction.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="HxW|center|F",
        words=("center",),
        read=image_crop,
    ),
    Option(
        name="mean",
        type="Sequence[float] | float | None",
        text="Subtracted from the pixels after `scale`, one value or one per channel.",
        functions=_FUNCTIONS,
        help="Subtracted after scaling, e.g. .485,.456,.406.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="R,G,B",
        read=numbers,
    ),
    Option(
        name="std",
        type="Sequence[float] | float | None",
        text="Pixels are divided by it after that.",
        functions=_FUNCTIONS,
        help="Divided by, then.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="R,G,B",
        read=numbers,
    ),
    Option(
        name="scale",
        type="float | None",
        text="Factor on the pixels 0..255; 1/255 where left out.",
        functions=_FUNCTIONS,
        help="Pixels 0..255 times this [default: 1/255].",
        commands=_COMMANDS,
        group=GROUP,
        metavar="X",
        read=number,
    ),
    Option(
        name="color",
        type="str | None",
        text='"rgb", "bgr" or "gray".',
        functions=_FUNCTIONS,
        help="rgb, bgr or gray.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="NAME",
        words="onnx_dalr.samples.images.settings:Color",
    ),
    Option(
        name="layout",
        type="str | None",
        text='"nchw" or "nhwc".',
        functions=_FUNCTIONS,
        help="nchw or nhwc.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="NAME",
        words="onnx_dalr.samples.images.settings:Layout",
    ),
    Option(
        name="preprocess",
        type="str | Callable[[Any], Any] | None",
        text='A function from a Pillow image to an array without the batch axis, or "file.py:function".',
        functions=_FUNCTIONS,
        help="In place of all this: Pillow image in, array without batch axis out.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="FILE.py:FUNCTION",
    ),
    Option(
        name="thumbnails",
        type="PathLike | None",
        text="Draw up to 16 images of the fit set as the model sees them into this PNG.",
        functions=("optimize", "analyze"),
        help="Draw 16 images as the model sees them.",
        commands=("optimize", "analyze"),
        group=GROUP,
        parsed=Path,
        metavar="FILE.png",
    ),
)
