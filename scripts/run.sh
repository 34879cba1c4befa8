#!/usr/bin/env bash
# Train one cell, or sweep over many; sets up on first use: bash scripts/run.sh [hydra overrides]
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

set_up ""
exec python -m optsweep "$@"
