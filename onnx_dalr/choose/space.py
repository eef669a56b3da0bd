"""The search space of one run: its layers, what each may become, what that costs and what it is expected to cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from onnx_dalr.candidate.candidate import Zeros, outline
from onnx_dalr.candidate.forms import at_rank, bytes_of, forms_of, largest_rank, params_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Forms, Ladder, Menu, Pricing
from onnx_dalr.factorize import Form, Method
from onnx_dalr.factorize.form import PAIR
from onnx_dalr.factorize.joined import JOINED
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.macs import MultiplyAdds
from onnx_dalr.graph.storage.model import saved_size
from onnx_dalr.learn.learn import Learned
from onnx_dalr.learn.trust import DEFAULT
from onnx_dalr.quality.times import Times
from onnx_dalr.request.context import Context
from onnx_dalr.request.selection import formats_of, rule_for
from onnx_dalr.request.target import Target
from onnx_dalr.request.weights import WeightRule

_SMALLEST = 1e-300
_MOST_ZEROS = 64
_AT_ONCE, _WIDE = 8, 32  # channels
_WANT_TIME = ("macs", "latency")  # names of targets

Weigh = Callable[[Forms], int]
"""Bytes on disk of the whole artifact with its layers in these forms."""


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """The layers of one model and what is known of them.

    Attributes:
        target: What was asked for.
        layers: The layers that may be compressed.
        learned: What the fit samples taught; None before they were looked at.
        method: The factorization.
        params: Parameters of the whole model as it is.
        bytes: Its size on disk.
        weigh: Says what the artifact would weigh: slower than a price, and exact.
        factors: Name of the factors, of those that were learned.
        weights: In which formats numbers may be stored.
        priced: Bytes of forms, where formats make these what counts if no target says it; None for parameters.
        macs: What the model multiplies for one sample; None where no sample is known.
        times: What the original and its layers take; None where that is no target.
        only: By layer name: the structures it may get, none for a layer that stays in one piece; the others get any.
    """

    target: Target
    layers: Sequence[Layer]
    learned: Learned | None
    method: Method
    params: int
    bytes: int
    weigh: Weigh
    factors: str = DEFAULT
    weights: tuple[WeightRule, ...] = ()
    priced: Callable[[Layer, Form], float] | None = None
    macs: MultiplyAdds | None = None
    times: Times | None = None
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def with_factors(self, name: str) -> SearchSpace:
        """The space with the factors of this name."""
        return self if name == self.factors else replace(self, factors=name)

    @property
    def names_of_factors(self) -> tuple[str, ...]:
        """Names of the factors there are to choose from; none before the samples were looked at."""
        return () if self.learned is None else tuple(self.learned.by_factors)

    @property
    def may_stay(self) -> bool:
        """Whether the model as it is is among what there is to choose from: no layer has to be in another format."""
        return all(form.untouched for form in self.in_one_piece)

    def changes(self, factors: str, forms: Forms) -> bool:
        """Whether a model with these forms is another one with factors by this name."""
        held = {} if self.learned is None else self.learned.by_factors.get(factors, {})
        return any(form.rank and layer.name in held for layer, form in zip(self.layers, forms, strict=True))

    def spectra(self, layer: Layer) -> Spectra | None:
        """Of one layer, with these factors; None before the samples were looked at."""
        return None if self.learned is None else self.learned.of(layer.name, self.factors)

    @cached_property
    def menus(self) -> list[Menu]:
        """By layer: every form that makes it smaller, and last what it is if nothing is left out of it."""
        return [self._menu(layer) for layer in self.layers]

    def _menu(self, layer: Layer) -> Menu:
        menu, spectra = forms_of(layer, self.method, self.formats_of(layer)), self.spectra(layer)
        return menu if spectra is None else tuple(form for form in menu if spectra.knows(form))

    def formats_of(self, layer: Layer) -> tuple[str, ...]:
        """In which numbers of a layer may be stored."""
        return formats_of(layer, self.weights, priced=self.target.prices_formats)

    @cached_property
    def in_one_piece(self) -> Forms:
        """By layer: what it is if nothing is left out of it."""
        return [menu[-1] for menu in self.menus]

    def curves(self, read: Callable[[Spectra, Form], float]) -> list[Curve]:
        """By layer: what `read` finds for every form of its menu."""
        found = []
        for layer, menu in zip(self.layers, self.menus, strict=True):
            spectra = self.spectra(layer)
            assert spectra is not None
            found.append(np.array([0.0 if form.untouched else read(spectra, form) for form in menu]))
        return found

    @cached_property
    def ladders(self) -> list[Ladder]:
        """The choices of each layer, at what they cost where no target says it."""
        return self.ladders_at(self.priced or self.params_of)

    def params_of(self, layer: Layer, form: Form) -> float:
        """Parameters of a layer in a form."""
        return float(params_of(layer, form, self.method))

    @cached_property
    def every_ladder(self) -> list[Ladder]:
        """The choices of each layer, those among them that others beat by what they are expected to lose."""
        return self.ladders_at(self.priced or self.params_of, beaten_too=True)

    def ladders_at(self, price: Callable[[Layer, Form], float], *, beaten_too: bool = False) -> list[Ladder]:
        """The choices of each layer at a price, the pinned ones pinned."""
        priced: list[Pricing] = [lambda form, layer=layer: price(layer, form) for layer in self.layers]  # type: ignore[misc]
        each = zip(self.layers, self.menus, priced, strict=True)
        return [self._ladder(*one, beaten_too=beaten_too) for one in each]

    def _ladder(self, layer: Layer, menu: Menu, price: Pricing, *, beaten_too: bool) -> Ladder:
        rule = rule_for(layer, self.target.ranks)
        if rule is None:
            allowed = [form for form in menu if self._allows(layer, form)]
            worth = set(allowed if beaten_too else self._worth(layer, allowed, price))
            return allocate.ladder(menu, price, allowed=lambda form: form in worth)
        form = at_rank(layer, rule.rank, menu[-1].format)
        return allocate.pinned(menu, (form if form in menu else menu[-1],), price)

    def _allows(self, layer: Layer, form: Form) -> bool:
        """Whether a form may be chosen at all.

        Who limits multiply-adds or time wants time, and kernels are computed 8 channels at once: other ranks take 10 to
        30 % more of it. Narrow layers have too few ranks to choose from as it is.
        """
        own = not form.rank or form.structure in self.only.get(layer.name, (form.structure,))
        in_eights = self.target.name in _WANT_TIME and self.target.multiple == 1 and form.structure != PAIR
        if in_eights and min(layer.m, layer.shape.channels) >= _WIDE:
            own = own and all(rank % _AT_ONCE == 0 for rank in form.rank)
        return own and self.target.allows(form)

    def _worth(self, layer: Layer, allowed: Sequence[Form], price: Pricing) -> Sequence[Form]:
        """The last of the forms, and those of the others that none of another structure or format beats for its price.

        By what they do to the network's output, where that is known: structures that lose as much of a layer's own
        output lose it in different directions. Within one structure and format a rank more loses no more, and what
        fills a budget takes rung by rung: between two of them that holds only for what is left here, and where there is
        more than one way to be larger it does not hold within one either.
        """
        spectra, whole = self.spectra(layer), allowed[-1]
        families = {family(form) for form in allowed if form != whole}
        if spectra is None or (len(families) < 2 and all(has_one_rank(form) for form in allowed if form.rank)):
            return allowed
        lost = spectra.effect if spectra.has_effect else spectra.tail
        least: dict[tuple[str, str], float] = {}
        kept: list[Form] = []
        for _, loss, form in sorted((price(form), lost(form), form) for form in allowed):
            if form == whole or all(
                loss < other for name, other in least.items() if name != family(form) or not has_one_rank(form)
            ):
                kept.append(form)
            least[family(form)] = min(loss, least.get(family(form), loss))
        return kept

    @cached_property
    def tails(self) -> list[Curve]:
        """By layer: the share of its own output to expect lost in each form, squared."""
        return self.curves(lambda spectra, form: spectra.tail(form) / max(spectra.first.power, _SMALLEST))

    @property
    def whole(self) -> int:
        """What the model costs as it is, where no target says what counts."""
        return self.params if self.priced is None else self.bytes

    @property
    def rest(self) -> int:
        """Parameters outside the layers."""
        return self.params - sum(layer.params for layer in self.layers)

    @property
    def saves(self) -> bool:
        """Whether any layer has a choice beside staying as it is."""
        return any(one.gives or not one.forms[0].untouched for one in self.ladders)

    def params_at(self, forms: Forms) -> int:
        """Parameters of the whole model with its layers in these forms."""
        return self.rest + int(sum(self.params_of(*each) for each in zip(self.layers, forms, strict=True)))

    def rows(self, layer: Layer) -> float:
        """Rows that a layer saw on the fit samples, 0 where it was not looked at; 1 before these were run."""
        return 1.0 if self.learned is None else float(self.learned.rows.get(layer.name, 0))

    def largest_rank(self, layer: Layer) -> int:
        """The largest rank that makes a layer smaller."""
        return largest_rank(layer, self.method)


def has_one_rank(form: Form) -> bool:
    """Whether a rank more is the one way in which it can be larger."""
    return len(form.rank) < 2 and form.structure not in JOINED


def family(form: Form) -> tuple[str, str]:
    """What forms that differ in their rank alone have in common; those of a joined structure all do."""
    return form.structure, "" if form.structure in JOINED else form.format


def space_of(context: Context, target: Target, layers: Sequence[Layer], learned: Learned | None) -> SearchSpace:
    """What there is to decide on.

    Args:
        context: Of the run.
        target: What was asked for.
        layers: The layers that may be compressed.
        learned: What the fit samples taught; None before they are looked at.
    """
    zeros: Zeros = {}

    def weigh(forms: Forms) -> int:
        if len(zeros) > _MOST_ZEROS:
            zeros.clear()
        made = outline(context, layers, learned, forms, zeros)
        return saved_size(made.proto, context.original, context.file)

    original, options = context.original, context.options

    def stored(layer: Layer, form: Form) -> float:
        return float(bytes_of(layer, form, options.method))

    return SearchSpace(
        target,
        layers,
        learned,
        options.method,
        original.params,
        original.size,
        weigh,
        weights=options.weights,
        priced=None if options.keeps or not target.prices_formats else stored,
        macs=context.macs,
        times=context.times,
    )
