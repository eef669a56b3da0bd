"""What one layer loses in every form: by structure, by rank, and by the format its numbers are stored in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnx_dalr.factorize.form import DENSE, Form
from onnx_dalr.factorize.joined import Losses, is_one
from onnx_dalr.factorize.rounding import Seen
from onnx_dalr.factorize.structures import Decomposition


@dataclass(frozen=True, eq=False)
class Spectra:
    """One Decomposition a structure, and what a format adds to it.

    What rounding leaves of the weight is spread over all directions alike, or nearly so: that share of what the weight
    as a whole is worth is lost on top, of its output's power, or of its effect where that is known.

    Attributes:
        by_structure: By name; at least one. Asking for one may take as long as an eigendecomposition.
        seen: What enters the weight, where rounding reads it.
        rounded: By the name of a format: the share of its output's power that it leaves behind of the weight in one
            piece; nothing where left out.
        rounded_apart: The same of the weight taken apart.
        joined: What is lost in joined structures, by name: of those that the samples say enough for.
    """

    by_structure: Mapping[str, Decomposition]
    rounded: Mapping[str, float] = field(default_factory=dict)
    rounded_apart: Mapping[str, float] = field(default_factory=dict)
    seen: Seen | None = None
    joined: Mapping[str, Losses] = field(default_factory=dict)

    @property
    def first(self) -> Decomposition:
        """Of the structure that comes first: what all have in common is read from it."""
        return next(iter(self.by_structure.values()))

    @property
    def has_effect(self) -> bool:
        """Whether what the layer does to the network's output is known."""
        return self.first.has_effect

    def knows(self, form: Form) -> bool:
        """Whether the samples say enough for a form."""
        return form.structure in (DENSE, *self.by_structure, *self.joined)

    def of(self, form: Form) -> Decomposition:
        """The one that a form belongs to; what its neighbours are is not asked."""
        return self.first if is_one(form) else self.by_structure[form.structure]

    def tail(self, form: Form) -> float:
        """Mean of ‖y − ŷ‖² to expect on unseen rows."""
        lost = 0.0 if is_one(form) else self.of(form).tail(form.rank)
        rounding = self._rounding(form)
        return lost + rounding * self.first.power if rounding else lost

    def effect(self, form: Form) -> float:
        """Distortion of the network's output to expect, in the unit of the seeds; NaN where it is not known."""
        if form.untouched:
            return 0.0 if self.has_effect else float("nan")
        lost = 0.0 if is_one(form) else self.of(form).effect(form.rank)
        rounding = self._rounding(form)
        return lost + rounding * self.first.whole_effect if rounding else lost

    def known_effect(self, form: Form) -> float | None:
        """The same; None where it is not known."""
        return self.effect(form) if self.of(form).has_effect else None

    def energy_lost(self, form: Form) -> float:
        """Share of the energy of y that is left out."""
        lost = 0.0 if is_one(form) else self.of(form).energy_lost(form.rank)
        return lost + self._rounding(form)

    def calibration_error(self, form: Form) -> float:
        """√(Σ‖y−ŷ‖² / Σ‖y‖²) over the fit rows: what this form alone does to the layer's output."""
        lost = 0.0 if is_one(form) else self.of(form).error(form.rank)
        power = self.of(form).power
        return _relative(lost + self._rounding(form) * power, power)

    def expected_error(self, form: Form) -> float:
        """√(E‖y−ŷ‖² / E‖y‖²) to expect on unseen rows: what this form alone does to the layer's output."""
        return _relative(self.tail(form), self.of(form).power)

    def _rounding(self, form: Form) -> float:
        if form.structure in self.joined:
            return self.joined[form.structure].share(form)
        return (self.rounded if form.structure == DENSE else self.rounded_apart).get(form.format, 0.0)


def _relative(error: float, power: float) -> float:
    return float(np.sqrt(max(error, 0.0) / power)) if power > 0 else 0.0
