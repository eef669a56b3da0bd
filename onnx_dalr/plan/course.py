"""How a student was tuned: what a plan records of it, so that the same samples and seed give the same file again."""

from __future__ import annotations

from dataclasses import dataclass

BATCH = 32
"""Samples in a step."""


@dataclass(frozen=True)
class Course:
    """A course of steps.

    Attributes:
        steps: How many there are.
        rate: η, the share of a tensor's size that a step moves it by at most.
        seed: Of the order of the samples, and of how they are mixed.
        mixed: Mixtures of samples are fed (mixup: Zhang et al., 2018); the teacher is run on the same.
        batch: Samples in a step.
        biases_only: Factors stay as they are: few samples.
        hints: Inner responses that are learned beside the outputs, by name.
        layerwise: Outputs of layers that are learned because no gradient reaches them from an output, by name.
        share: α, how far the way from the start to where the steps lead is gone.
        loss: What was learned, in words.
        samples: Fingerprint of those that taught, to know them again.
    """

    steps: int
    rate: float
    seed: int = 0
    mixed: bool = False
    batch: int = BATCH
    biases_only: bool = False
    hints: tuple[str, ...] = ()
    layerwise: tuple[str, ...] = ()
    share: float = 1.0
    loss: str = ""
    samples: str = ""
