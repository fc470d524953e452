#!/usr/bin/env bash
# tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# One process per GPU, or PROCESSES processes on a machine without a GPU.
# For several machines set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 CONFIG PROCESSES [train.py arguments]" >&2; exit 2; }
CONFIG=$1
PROCESSES=$2
python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
