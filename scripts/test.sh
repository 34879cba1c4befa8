#!/usr/bin/env bash
# Run every test; sets up on first use: bash scripts/test.sh [pytest arguments]
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

set_up "[test]"
export OMP_NUM_THREADS=1 # PyTorch's threads in each of several workers only get in each other's way
exec python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
