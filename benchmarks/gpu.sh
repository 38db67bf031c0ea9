#!/usr/bin/env bash
# Runs benchmarks/gpu.py from a plain clone on a GPU machine that reaches no package registry.
#
#   bash benchmarks/gpu.sh [arguments of gpu.py]
#
# What such a machine must have: an NVIDIA driver, Python 3.12 with numpy, onnx, onnxruntime, opencv (headless will do),
# numba, rich, filelock, cuda-bindings and NVRTC; torch for the comparisons. What travels with the clone:
#   .trt/part.00 …, .trt/SHA256SUMS   TensorRT and its Python bindings, a split .tar.xz
#   .whl/*.whl                        wheels of what else is missing there: av
# The parts may come in several visits: each copies what it finds to $RTSEG_GPU_HOME (by default ~/.rtseg-gpu), and the
# visit that completes them unpacks and measures. docs/tensorrt.md says how the parts are made.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${RTSEG_GPU_HOME:-$HOME/.rtseg-gpu}
python=${PYTHON:-python3}
mkdir -p "$home/parts" "$home/site"

if ! PYTHONPATH=$home/trt "$python" -c 'import tensorrt' 2>/dev/null; then
  cp -n .trt/* "$home/parts/" 2>/dev/null || true
  [ -s "$home/parts/SHA256SUMS" ] || { echo "error: no TensorRT here, and no .trt/SHA256SUMS beside the clone" >&2; exit 3; }
  missing=$(while read -r _ name; do [ -e "$home/parts/$name" ] || echo "$name"; done < "$home/parts/SHA256SUMS")
  if [ -n "$missing" ]; then
    echo "these parts of TensorRT are still to come: $(echo "$missing" | tr '\n' ' ')"
    exit 0
  fi
  damaged=$(cd "$home/parts" && { sha256sum -c SHA256SUMS 2>/dev/null || true; } | sed -n 's/: FAILED.*//p')
  if [ -n "$damaged" ]; then
    (cd "$home/parts" && xargs rm -f <<< "$damaged")
    echo "error: damaged, bring again: $(echo "$damaged" | tr '\n' ' ')" >&2
    exit 3
  fi
  rm -rf "$home/trt.new" && mkdir "$home/trt.new"
  cat "$home"/parts/part.* | tar xJ -C "$home/trt.new"
  rm -rf "$home/trt" && mv "$home/trt.new" "$home/trt"
fi
if compgen -G ".whl/*.whl" > /dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$home/site" .whl/*.whl
fi
export PYTHONPATH=$PWD:$home/site:$home/trt${PYTHONPATH:+:$PYTHONPATH}
exec "$python" benchmarks/gpu.py "$@"
