"""Factorizes one layer of 16,384 outputs and more inputs: the size at which a single X @ X.T is known to crash BLAS.

    python tools/big_layer.py [--outputs 16384] [--inputs 20000] [--rows 512]

Takes minutes and about 10 GB; not part of the suite.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from onnx_dalr.factorize import METHODS, Statistics


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=16384)
    parser.add_argument("--inputs", type=int, default=20000)
    parser.add_argument("--rows", type=int, default=512)
    options = parser.parse_args()
    m, n = options.outputs, options.inputs
    random = np.random.default_rng(0)
    W = random.standard_normal((m, n), dtype=np.float32)
    method = METHODS["dalr"]
    start = time.perf_counter()
    statistics = Statistics(m, n, method.needs(m, n))
    statistics.update(random.standard_normal((options.rows, n), dtype=np.float32), W)
    print(f"statistics {time.perf_counter() - start:.1f} s")
    gram = statistics.output_covariance
    spread = float(np.trace(gram))
    print(f"trace {spread:.6g}, symmetric: {bool(np.allclose(gram[:64, -64:], gram[-64:, :64].T))}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"total {time.perf_counter() - start:.1f} s, peak {peak:.1f} GB")


if __name__ == "__main__":
    main()
