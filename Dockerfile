# onnx-dalr as a command, on the CPU. From a clone:
#
#   docker build -t onnx-dalr .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" onnx-dalr optimize in.onnx out.onnx --calib images/
#
# /work in the container is the folder you are in, and what is written there is yours. Nothing needs the network
# (--network none), nothing but /work is written to (--read-only --tmpfs /tmp).

FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir "uv>=0.5,<1"
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY onnx_dalr/ onnx_dalr/
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# On x86-64 the wheel asks for onnxruntime-gpu, which is 270 MB larger; without CUDA in the image it would run on the
# CPU all the same.
RUN echo "onnxruntime-gpu ; sys_platform == 'none'" > /overrides \
    && python -m venv --without-pip /opt/onnx-dalr \
    && uv pip install --no-cache --compile-bytecode --python /opt/onnx-dalr/bin/python --override /overrides \
        onnxruntime /wheels/*.whl

FROM python:3.11-slim-bookworm
COPY --from=build /opt/onnx-dalr /opt/onnx-dalr
ENV PATH="/opt/onnx-dalr/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home --uid 1000 dalr
USER 1000
WORKDIR /work
ENTRYPOINT ["onnx-dalr"]
CMD ["--help"]
