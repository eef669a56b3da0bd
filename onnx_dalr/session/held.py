"""Tensors that stay where a model runs: what one run makes of them is what the next one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.graph.moments import Held
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.installed import onnxruntime
from onnx_dalr.session.session import CPU, Session, refused

Made = Mapping[str, Any]
"""By the input that takes it, what a run made: tensors on the device."""


class Holding:
    """A session with tensors that go on from run to run, zeros at first."""

    def __init__(self, session: Session, held: Sequence[Held]) -> None:
        """Takes a session, and the inputs and outputs of it that belong together.

        Raises:
            InputError: The device has no room for them.
        """
        self.session, self._held = session, held
        self._at = ("cpu" if session.provider == CPU else "cuda", 0)
        zeros = {each.taken: np.zeros(each.shape) for each in held}
        tensor = onnxruntime().OrtValue.ortvalue_from_numpy
        with refused(zeros):
            self._now: dict[str, Any] = {name: tensor(array, *self._at) for name, array in zeros.items()}

    def run(self, batch: Batch, outputs: Sequence[str]) -> tuple[list[NDArray[Any]], Made]:
        """(outputs of one batch; what it makes of what is held, which `keep` puts in its place).

        Raises:
            InputError: ONNX Runtime refuses the batch.
        """
        binding = self.session.raw.io_binding()
        with refused(batch):
            for name, array in self.session.fed(batch).items():
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            for each in self._held:
                binding.bind_ortvalue_input(each.taken, self._now[each.taken])
            for name in outputs:
                binding.bind_output(name)
            for each in self._held:
                binding.bind_output(each.made, *self._at)
            self.session.raw.run_with_iobinding(binding)
            made = binding.get_outputs()
            found = [value.numpy() for value in made[: len(outputs)]]
        taken = [each.taken for each in self._held]
        return found, dict(zip(taken, made[len(outputs) :], strict=True))

    def keep(self, made: Made) -> None:
        """Goes on with what a run made."""
        self._now = dict(made)

    def value(self, held: Held) -> NDArray[np.float64]:
        """What is held now."""
        return np.asarray(self._now[held.taken].numpy())
