#!/bin/sh
# From nothing to a report: makes the environment, meta-trains a small hierarchical RNN
# (configs/quickstart.yaml), exports it, and evaluates it and the packaged weights on tasks neither
# has seen, next to tuned Adam, tuned AdamW with a schedule, and relative_soap as it comes. Every run gets a folder of its own: runs/quickstart, -2, -3, ...
set -eu
cd "$(dirname "$0")/.."
scripts/environment.sh data,report
PATH=$PWD/.venv/bin:$PATH

run=runs/quickstart
count=1
mkdir -p runs
until mkdir "$run" 2>/dev/null; do
    [ -e "$run" ] || mkdir "$run" # says why not
    count=$((count + 1))
    run=runs/quickstart-$count
done

echo
echo "1/3  Meta-training (configs/quickstart.yaml)"
learned-opt train configs/quickstart.yaml --out "$run"
echo
echo "2/3  Exporting the weights"
learned-opt export "$run" "$run/quickstart.safetensors"
echo
echo "3/3  Evaluating on held-out tasks"
learned-opt evaluate "$run/quickstart.safetensors" --suite heldout_quick --steps 500 --seeds 2 \
    --optimizers anchored_mlp --baselines adam,adamw+warmup_cosine,relative_soap \
    --yardstick adamw+warmup_cosine --out "$run/evaluation"
echo
echo "Weights: $PWD/$run/quickstart.safetensors"
echo "Report:  $PWD/$run/evaluation/report.html"
