"""`python -m onnx_dalr` is `onnx-dalr`."""

from onnx_dalr.cli.main import main

main()
