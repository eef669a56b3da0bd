"""One way of tools/bench_speed.py over a prepared folder, in a process of its own; it prints the seconds of its work.

    python tools/bench_speed_ways.py "bare algebra" FOLDER --threads 2

Nothing here is of onnx-dalr: the passes are ONNX Runtime's, the algebra is written anew, from the paper.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from bench_speed_cases import Prepared
from numpy.typing import NDArray

KEEP = 0.2
"""Share of its parameters that a layer keeps in the published formula; it takes the same time at any rank."""

_RIDGE = 1e-3


def layers(folder: Path, chosen: tuple[int, ...]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(what enters it, [p, n]; W, [m, n]) of each layer."""
    for at in chosen:
        yield np.load(folder / f"x{at}.npy"), np.load(folder / f"w{at}.npy")


def run_pass(case: Prepared, folder: Path, threads: int) -> None:
    """The model over all samples, nothing else."""
    del folder
    import onnxruntime as ort  # noqa: PLC0415 - the algebra is measured without it

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    with np.load(case.samples) as file:
        feeds = dict(file)
    for at in range(0, case.count, case.batch):
        session.run(None, {name: array[at : at + case.batch] for name, array in feeds.items()})


def algebra(case: Prepared, folder: Path, threads: int) -> None:
    """Of every layer the moment of what it gives, and its directions: the smaller side of m and n."""
    del threads
    for X, W in layers(folder, tuple(range(len(case.layers)))):
        m, n = W.shape
        if m <= n:
            given = X @ W.T
            moment = given.T @ given
        else:
            L = scipy.linalg.cholesky(_ridged((X.T @ X).astype(np.float64), len(X)), lower=True)
            moment = L.T @ (W.T @ W) @ L
        scipy.linalg.eigh(moment.astype(np.float64), driver="evd", overwrite_a=True, check_finite=False)


def _ridged(moment: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    moment /= rows
    moment.flat[:: len(moment) + 1] += _RIDGE * float(np.trace(moment)) / len(moment)
    return moment


def published(dtype: type[np.floating[Any]]) -> Callable[[Prepared, Path, int], None]:
    """The formula as it is printed (Masana et al. 2017, §4.2), all of X in memory."""
    linalg: Any = np.linalg if dtype is np.float64 else scipy.linalg  # NumPy computes in double

    def run(case: Prepared, folder: Path, threads: int) -> None:
        del threads
        for rows, weight in layers(folder, case.dense):
            X, W = rows.T.astype(dtype), weight.astype(dtype)
            (m, n), p = W.shape, X.shape[1]
            Z = W @ X
            U, _, _ = linalg.svd(Z, full_matrices=False)
            A = U[:, : max(1, round(KEEP * m * n / (m + n)))]
            ridge = _RIDGE * float(np.einsum("np,np->", X, X)) / n
            B = A.T @ Z @ X.T @ linalg.inv(X @ X.T + dtype(ridge) * np.eye(n, dtype=dtype))
            if B.shape != (A.shape[1], n) or p != rows.shape[0] or not np.isfinite(B).all():
                raise SystemExit("error: the formula gave no factors")

    return run


def quantize_dynamic(case: Prepared, folder: Path, threads: int) -> None:
    """Weights as int8, no samples."""
    del threads
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - as above

    big = case.model_bytes > 2**31 - 1
    quantize_dynamic(case.model, folder / "q.onnx", weight_type=QuantType.QInt8, use_external_data_format=big)


def quantize_static(case: Prepared, folder: Path, threads: int) -> None:
    """Weights and activations as int8, calibrated on the same samples."""
    del threads
    from onnxruntime.quantization import (  # noqa: PLC0415 - as above
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    with np.load(case.samples) as file:
        feeds = dict(file)
    starts = iter(range(0, case.count, case.batch))

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        """A batch at a time."""

        def get_next(self) -> dict[str, Any] | None:
            at = next(starts, None)
            return None if at is None else {name: array[at : at + case.batch] for name, array in feeds.items()}

    big = case.model_bytes > 2**31 - 1
    quantize_static(
        case.model,
        folder / "q.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        weight_type=QuantType.QInt8,
        use_external_data_format=big,
    )


def slim(case: Prepared, folder: Path, threads: int) -> None:
    """The graph with fewer nodes: what it takes to read, check and write the model."""
    del threads
    import onnxslim  # noqa: PLC0415 - may not be installed

    onnxslim.slim(case.model, str(folder / "q.onnx"), save_as_external_data=case.model_bytes > 10**8)


def torch_svd(case: Prepared, folder: Path, threads: int) -> None:
    """A data-aware SVD as people write it in PyTorch: W times the root of the moment, on the same rows."""
    import torch  # noqa: PLC0415 - another Python may have it

    torch.set_num_threads(threads)
    for rows, weight in layers(folder, case.dense):
        X, W = torch.from_numpy(rows), torch.from_numpy(weight)
        m, n = W.shape
        k = max(1, round(KEEP * m * n / (m + n)))
        moment = X.T @ X / len(X)
        moment.diagonal().add_(10 * _RIDGE * moment.trace() / n)
        root = torch.linalg.cholesky(moment)
        del moment
        U, s, V = torch.linalg.svd(W @ root, full_matrices=False)
        A, B = U[:, :k] * s[:k], torch.linalg.solve_triangular(root, V[:k], upper=False, left=False)
        if tuple(A.shape) != (m, k) or not bool(torch.isfinite(B).all()):
            raise SystemExit("error: no factors")


WAYS: dict[str, Callable[[Prepared, Path, int], None]] = {
    "ONNX Runtime": run_pass,
    "bare algebra": algebra,
    "published": published(np.float64),
    "published, single precision": published(np.float32),
    "quantize_dynamic": quantize_dynamic,
    "quantize_static": quantize_static,
    "onnxslim": slim,
    "torch SVD": torch_svd,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=list(WAYS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    case = Prepared.from_json(json.loads((options.folder / "case.json").read_text(encoding="utf-8")))
    cpu, wall = time.process_time(), time.perf_counter()
    WAYS[options.way](case, options.folder, options.threads)
    print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))


if __name__ == "__main__":
    main()
