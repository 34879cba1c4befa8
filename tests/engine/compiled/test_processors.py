"""The compiled engine as it is on processors without AVX-512, or without AVX2 as well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite import binding

TESTS = Path(__file__).parents[2]
# One test for each loop, with inputs and units that fill no vector, and all of the intrinsics.
CASES = [
    f"engine/test_engines.py::test_inputs_of_any_number_none_of_which_is_zero[{case}-float32]"
    for case in ("37-sgd with decay-1", "37-amsgrad-1", "37-momentum-32")
]
FILES = [f"engine/compiled/test_{name}.py" for name in ("inputs", "memory", "vectors")]
FEATURES = ["avx", "avx2", "bmi", "bmi2", "cmov", "f16c", "fma", "lzcnt", "movbe", "popcnt"]
FEATURES += ["sse", "sse2", "sse3", "ssse3", "sse4.1", "sse4.2"]


OLDER = [name for name in FEATURES if name not in {"avx2", "bmi", "bmi2", "fma"}]


@pytest.mark.skipif(
    not binding.get_host_cpu_features().get("avx2"), reason="code for AVX2 does not run here"
)
@pytest.mark.parametrize(
    ("processor", "features", "tests"),
    [("haswell", FEATURES, CASES + FILES), ("ivybridge", OLDER, CASES[:1] + FILES)],
)
def test_vectors_of_32_bytes(processor, features, tests):
    env = os.environ | {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in features),
        "PYTHONPATH": str(TESTS.parent),
    }
    program = "from optsweep.engine.compiled import memory; print(memory._VECTOR_BYTES)"
    told = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert told.stdout == "32\n"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=TESTS,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
