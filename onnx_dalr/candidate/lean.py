"""A candidate in a session for the few batches of a search: nothing is written, and what it shares is there once."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from onnx_dalr.graph.storage.handed import Handed
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.session.session import Runtime, Session, open_session


class Lean:
    """Opens candidates of one model.

    The model that ONNX Runtime parses only names its large weights, and is handed their values: of those that it shares
    with the original every session computes with the same arrays.
    """

    def __init__(self, original: Model, runtime: Runtime) -> None:
        self._handed, self._runtime = Handed(original), runtime

    def open(self, proto: ModelProto, ends: Callable[[ModelProto], ModelProto] = lambda proto: proto) -> Session:
        """A candidate, or what `ends` makes of it, in a session.

        Args:
            proto: Left as it is.
            ends: Changes what goes into the model and what comes out of it, and leaves out what it does not need.

        Raises:
            InputError: As `open_session`.
        """
        named, folder = self._handed.named_only(proto)
        made = ends(named)
        values = self._handed.values(proto, made)
        return open_session(made.SerializeToString(), self._runtime, folder, values=values)
