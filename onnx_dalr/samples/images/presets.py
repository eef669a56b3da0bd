"""Named image settings that people know their models by. A new preset is a line in the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Color = Literal["rgb", "bgr", "gray"]
Resample = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preset:
    """What a preset says; what is None is left to the model, as without a preset.

    Attributes:
        mean: One value, or one per channel in the order of `color`.
        std: One value, or one per channel in the order of `color`.
        scale: Factor of the pixels 0..255.
        color: Channels and their order; None: by the model, "rgb" where it has three.
        crop: Fraction of the (shorter) side that the square in the middle keeps; None: the whole image is resized.
        size: Side of that square where the model leaves it open.
        resample: How images are resized.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float = 1 / 255
    color: Color | None = None
    crop: float | None = None
    size: int | None = None
    resample: Resample = "bilinear"


_MINUS_1_TO_1 = Preset(mean=(0.5,), std=(0.5,))
_0_TO_1 = Preset()

PRESETS = {
    # torchvision's ImageNet weights, timm, ONNX model zoo: shorter side to 256, the middle 224 (224/256 = 0.875).
    "imagenet": Preset((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop=0.875, size=224),
    # TensorFlow's Inception and MobileNet, mode "tf" of Keras: x/127.5 − 1.
    "imagenet-inception": _MINUS_1_TO_1,
    "tf": _MINUS_1_TO_1,
    # Caffe's VGG and ResNet, mode "caffe" of Keras: BGR, the mean of ImageNet in pixel levels, not scaled.
    "caffe": Preset((103.939, 116.779, 123.68), scale=1.0, color="bgr"),
    # OpenAI's CLIP and OpenCLIP: shorter side to 224, bicubic, the middle 224.
    "clip": Preset(
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
        crop=1.0,
        size=224,
        resample="bicubic",
    ),
    # Google's SigLIP: the whole image, bicubic, to −1..1.
    "siglip": Preset((0.5,), (0.5,), resample="bicubic"),
    # Mean and standard deviation of the pixels of the training images.
    "cifar10": Preset((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": Preset((0.1307,), (0.3081,), color="gray"),
    "unit": _0_TO_1,
    # Ultralytics' YOLO: 0..1 RGB; the grey bars of its letterbox are not drawn, the whole image is resized.
    "yolo": _0_TO_1,
    "raw": Preset(scale=1.0),
}
