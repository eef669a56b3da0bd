"""A candidate in a session for the few batches of a search: nothing is written, and what it shares is there once."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from onnx_dalr.candidate.loadable import loadable
from onnx_dalr.graph.storage.handed import Handed
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.session.session import CPU, Runtime, Session, open_session

_NAME = "candidate.onnx"


class Lean:
    """Opens candidates of one model.

    The model that ONNX Runtime parses only names its large weights, and is handed their values: of those that it shares
    with the original every session computes with the same arrays. A device with memory of its own gets the model whole.
    """

    def __init__(self, original: Model, runtime: Runtime, provider: str) -> None:
        """Takes the original, and the execution provider that really runs it."""
        self._original, self._runtime, self._here = original, runtime, provider == CPU
        self._handed = Handed(original)

    def open(self, proto: ModelProto, ends: Callable[[ModelProto], ModelProto] = lambda proto: proto) -> Session:
        """A candidate, or what `ends` makes of it, in a session.

        Args:
            proto: Left as it is.
            ends: Changes what goes into the model and what comes out of it, and leaves out what it does not need.

        Raises:
            InputError: As `open_session`.
        """
        if not self._here:
            with loadable(self._original, ends(proto), _NAME) as (source, _):
                return open_session(source, self._runtime)
        named, folder = self._handed.named_only(proto)
        made = ends(named)
        values = self._handed.values(proto, made)
        return open_session(made.SerializeToString(), self._runtime, folder, values=values)
