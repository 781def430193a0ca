#!/usr/bin/env bash
# Builds the release binaries and measures them; see tests/src/bench. Source .ci/env first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --locked --release --workspace --bins
exec "$CARGO_TARGET_DIR/release/chancery-bench"
