#!/usr/bin/env bash
# Run every test; sets up on first use: bash scripts/test.sh [pytest arguments]
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

set_up "[test]"
export OMP_NUM_THREADS=1 # PyTorch's threads in each of several workers only get in each other's way
# One worker more than processors, for some tests wait for a server, a browser or a killed process.
workers=$(($(getconf _NPROCESSORS_ONLN) + 1))
exec python -m pytest --numprocesses "$workers" --maxprocesses 4 --dist worksteal "$@"
