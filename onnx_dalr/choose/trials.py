"""Trials: allocations side by side, each scored once on the select samples; the least distortion wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import special

from onnx_dalr.candidate.forms import at_rank
from onnx_dalr.choose.allocate import Curve, Forms
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.factorize import Form
from onnx_dalr.plan.choice import Choice, Point, refused
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.selection import rule_for
from onnx_dalr.request.target import Target

BEST_EFFORT = "the target is not met, this is the closest"
EQUAL = "one keep ratio for all layers"
BY_ERROR = "ranks by the own error of each layer"
BY_EFFECT = "ranks by what each layer does to the output"
MIXED = "ranks half by what each layer does to the output, half by its own error"
_FEWEST = 5
_ONE = 0.8413  # one standard error, where samples are many
TWO = 0.9772
"""Two standard errors, for what is to be changed only where it is sure to help."""


@dataclass(frozen=True)
class Trial:
    """A plan's model, scored on the select samples.

    Attributes:
        drop: Score lost, as a fraction; infinite where outputs are not finite.
        distortion: How far the outputs moved, in the task's own unit.
        error: Of the worst output.
        bytes: Its size on disk.
        distortions: The distortion by sample, the same samples for every trial; empty where it is not known.
        worst: Name of the output that lost most, where several count; else empty.
        drop_bound: What the drop is below with the confidence that was asked for; None without.
        error_bound: What the error is below with that confidence; None without.
    """

    drop: float
    distortion: float
    error: float = 0.0
    bytes: int = 0
    distortions: tuple[float, ...] = ()
    worst: str = ""
    drop_bound: float | None = None
    error_bound: float | None = None

    @property
    def certain_drop(self) -> float:
        """What counts against a tolerance."""
        return self.drop if self.drop_bound is None else self.drop_bound

    @property
    def certain_error(self) -> float:
        """What counts against a tolerance."""
        return self.error if self.error_bound is None else self.error_bound

    def stays_within(self, target: Target) -> bool:
        """Whether no more is lost than a tolerance allows: of the score, or of the worst output."""
        return (self.certain_drop if target.name == "max-drop" else self.certain_error) <= target.value + ROUNDING

    def clearly_beats(self, other: Trial, level: float = _ONE) -> bool:
        """Whether its distortion is less by more than one standard error of the paired differences, by Student's t.

        Or by as many as the level says, the share of a normal distribution below them.

        The distortion of a few samples is made by one or two of them: a smaller mean alone says little, and what fewer
        than five say of each other says nothing.
        """
        gain, n = other.distortion - self.distortion, len(self.distortions)
        if not math.isfinite(gain) or n != len(other.distortions) or not n:
            return gain > 0
        if n < _FEWEST:
            return False
        differences = np.subtract(other.distortions, self.distortions)
        return gain > float(special.stdtrit(n - 1, level) * np.std(differences, ddof=1)) / math.sqrt(n)


ROUNDING = 1e-12
"""2.9 % is a little less than 29 of 1000."""

Scorer = Callable[[Plan], Trial]


class Effects(Protocol):
    """What each layer does to the output: one curve per layer, in one unit."""

    def near(self, forms: Forms) -> None:
        """Looks closer at these forms, where there is something to measure."""
        ...

    def curves(self) -> list[Curve]:
        """By layer: predicted distortion of the output in every form of its menu."""
        ...


class Judge:
    """What may be asked of the select samples: every plan is scored once and remembered.

    Attributes:
        effects: Makes what knows the effect of each layer; None where that is unaffordable.
        trials: By factors and forms.
        beyond: (low, high, plan for a cost) of a search that has ended: below the smallest that passed.
    """

    def __init__(self, score: Scorer, effects: Callable[[SearchSpace], Effects] | None = None) -> None:
        self.effects = effects
        self.trials: dict[Key, Trial] = {}
        self.beyond: tuple[float, float, Callable[[float], Plan]] | None = None
        self._score = score
        self._points: dict[Key, Point] = {}

    def trial(self, space: SearchSpace, plan: Plan, name: str) -> Trial:
        """Of a plan; `name` says how its forms were chosen."""
        key = key_of(plan)
        if key not in self.trials:
            trial = self._score(plan)
            self.trials[key] = trial
            size = (space.params_at(list(key[1])), trial.bytes)
            self._points[key] = Point(name, *size, trial.drop, trial.error, trial.distortion)
        return self.trials[key]

    def curve(self, chosen: Plan) -> tuple[Point, ...]:
        """Every plan that was scored, the smallest first."""
        points = (replace(point, chosen=key == key_of(chosen)) for key, point in self._points.items())
        return tuple(sorted(points, key=lambda point: (point.params, point.bytes)))


Key = tuple[str, tuple[Form, ...]]


def key_of(plan: Plan) -> Key:
    """Factors and forms: what makes the model."""
    return plan.factors, tuple(choice.form for choice in plan.choices)


class Trials:
    """Named choices of forms and factors, side by side."""

    def __init__(self, space: SearchSpace, judge: Judge) -> None:
        self._space, self._judge = space, judge
        self.entered: dict[str, Plan] = {}

    def enter(self, name: str, forms: Forms, factors: str | None = None) -> Trial:
        """Scores these forms, with the factors of the space unless others are named."""
        space = self._space.with_factors(factors or self._space.factors)
        self.entered[name] = _tried(space, forms, name)
        return self._judge.trial(space, self.entered[name], name)

    def trial(self, name: str) -> Trial:
        """Of what was entered under a name."""
        return self._judge.trials[key_of(self.entered[name])]

    def forms(self, name: str) -> Forms:
        """Of what was entered under a name."""
        return [choice.form for choice in self.entered[name].choices]

    def distortion(self, name: str) -> float:
        """Of what was entered under a name."""
        return self.trial(name).distortion

    def winner(self, names: Iterable[str] | None = None) -> str:
        """The name with the least distortion, if clearly less than the first's, which is the one to expect most of.

        One ratio for all wins where it does as well as any.
        """
        among = list(self.entered) if names is None else list(names)
        least = min(among, key=lambda name: (self.distortion(name), name != EQUAL))
        if self.distortion(least) == self.distortion(among[0]):
            return least
        return least if self.trial(least).clearly_beats(self.trial(among[0])) else among[0]

    def why(self, won: str) -> str:
        """The winner, and by how much it won."""
        others = ", ".join(f"{name} {self.distortion(name):.3g}" for name in self.entered if name != won)
        against = f" ({others})" if others else ""
        least = min(map(self.distortion, self.entered)) == self.distortion(won)
        rank = "the least distortion" if least else "no other has clearly less distortion"
        return f"{won}, {rank} of the select samples: {self.distortion(won):.3g}{against}"

    def result(self) -> Plan:
        """The winner's plan."""
        won = self.winner()
        return self.finished(self.entered[won], self.why(won))

    def finished(self, plan: Plan, why: str) -> Plan:
        """A plan that was scored, with its reason and the curve of all that were."""
        space = self._space.with_factors(plan.factors)
        made = plan_of(space, [choice.form for choice in plan.choices], why)
        return replace(made, evaluations=len(self._judge.trials), curve=self._judge.curve(plan))


def _tried(space: SearchSpace, forms: Forms, name: str) -> Plan:
    """What of a plan makes the model: what to expect of each layer, and why, is said of the one that is chosen."""
    pairs = zip(space.layers, forms, strict=True)
    choices = tuple(Choice(layer=layer.name, form=form, reason=name) for layer, form in pairs)
    return Plan(space.method.name, choices, target=str(space.target), factors=space.factors)


def plan_of(space: SearchSpace, forms: Forms, why: str) -> Plan:
    """The plan of these forms, with `why` as the reason of every one, or what keeps a layer from it."""
    all_untouched = all(form.untouched for form in forms)
    choices = []
    for position, (layer, form) in enumerate(zip(space.layers, forms, strict=True)):
        spectra = None if form.untouched else space.spectra(layer)
        choices.append(
            Choice(
                layer=layer.name,
                form=form,
                reason=_reason(space, position, form, why, all_untouched=all_untouched),
                expected_error=None if spectra is None else spectra.expected_error(form),
                expected_distortion=None if spectra is None else spectra.known_effect(form),
                largest_rank=space.largest_rank(layer),
            )
        )
    return Plan(space.method.name, tuple(choices), target=str(space.target), factors=space.factors)


def _reason(space: SearchSpace, position: int, form: Form, why: str, *, all_untouched: bool) -> str:
    """Why one layer has its form."""
    layer = space.layers[position]
    rule = rule_for(layer, space.target.ranks)
    if rule is not None:
        beyond = not form.rank and rule.rank is not None and not layer.in_one_piece
        return refused(at_rank(layer, rule.rank, form.format), space.largest_rank(layer)) if beyond else "as asked"
    if space.target.name == "rank":
        return "no --rank for it" if form.untouched else f"as asked: {form.format}"
    return "dense: " + _why_untouched(space, position, why, all_untouched=all_untouched) if form.untouched else why


def _why_untouched(space: SearchSpace, position: int, why: str, *, all_untouched: bool) -> str:
    largest = space.largest_rank(space.layers[position])
    if not space.ladders[position].gives:
        return f"no rank that may be chosen makes it smaller ({largest} is the largest)"
    if all_untouched:
        return "the target is met without it"
    if why.startswith(EQUAL):
        return "too small beside the largest layer for a ratio to gain much"
    if space.target.name == "energy":
        return f"the largest rank that saves, {largest}, keeps too little of the variance"
    return "its parameters are worth more than what leaving them out would save"
