"""Option values that are more than a word, as people type them."""

from __future__ import annotations

import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.request.options import make_options
from onnx_dalr.request.values import image_crop, image_size


@pytest.mark.parametrize(("text", "value"), [("224", 224), ("224x192", (224, 192)), ("224 X 192", (224, 192))])
def test_sizes(text: str, value: object) -> None:
    assert image_size("--resize", text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("center", "center"),
        ("224", (224, 224)),
        ("224×192", (224, 192)),
        ("1", 1.0),
        ("0.875", 0.875),
        ("7/8", 0.875),
    ],
)
def test_crops(text: str, value: object) -> None:
    assert image_crop("--crop", text) == value


@pytest.mark.parametrize("text", ["", "x", "middle", "1x2x3", "²", "1/0"])
def test_neither(text: str) -> None:
    with pytest.raises(InputError, match="is no crop"):
        image_crop("--crop", text)
    with pytest.raises(InputError, match="is not a size"):
        image_size("--resize", text)


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "tcp://host", "tcp://host:port", "host:8786"])
def test_an_address_without_host_or_port_is_refused_before_anybody_is_asked(address: str) -> None:
    with pytest.raises(InputError, match="is no address of a scheduler") as caught:
        make_options(cluster=address)
    assert "tcp://HOST:8786" in (caught.value.hint or "")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tls://scheduler:8786", "tcp://[::1]:8786"])
def test_an_address_is_taken_as_it_is(address: str) -> None:
    assert make_options(cluster=address).cluster == address
