#!/bin/bash
#SBATCH --job-name=learned-opt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
# One process per node, all devices of the node to it; JAX reads the rest from SLURM's variables.
# A run that is preempted or out of time has saved itself, is queued again and goes on:
#   sbatch scripts/slurm.sh CONFIG [key=value ...] --out DIR-ON-A-SHARED-DISK
set -eu
python=${PYTHON:-.venv/bin/python}
# The cache of compiled programs is worth the most where all nodes share it.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/.jax-cache}

code=0
srun --kill-on-bad-exit=0 "$python" scripts/train.py "$@" --distributed --resume || code=$?
if [ "$code" -eq 130 ]; then # interrupted, saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
