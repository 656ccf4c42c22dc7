#!/bin/sh
# The second phase of tcm-small's training in nine minutes of one H100 with 16 cores: as many samples as on a CPU, in larger
# batches. What the sizes below give on a GPU is not yet measured.
#
#   python examples/pack_training_data.py examples/configs/tcm-small-phase2.json pack.tar --data_root data
#   sh examples/train_on_gpu.sh pack.tar OUTPUT_DIR [further options of tcm-hf train]
#
# OUTPUT_DIR gets `run`, the training run, and `checkpoint`, the result: in half precision, ready to be used. Where the time
# ends first, the result is the newest checkpoint. Started again, it goes on where it ended. The environment has other sizes:
#   START    checkpoint to start from               (tcm-small, of the package)
#   CONFIG   options of the run                     (examples/configs/tcm-small-phase2.json)
#   STEPS    optimizer steps                        (1875: 60,000 samples)
#   BATCH    samples of a step                      (32)
#   WORKERS  processes that make samples            (one fewer than cores, at most 15)
#   MINUTES  after which training ends              (8; the rest is for starting and for the result)
set -eu
pack=$1 output=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
start=${START:-tcm-small} config=${CONFIG:-$here/configs/tcm-small-phase2.json}
steps=${STEPS:-1875} batch=${BATCH:-32} minutes=${MINUTES:-8}
cores=$(nproc)
workers=${WORKERS:-$((cores > 16 ? 15 : cores > 1 ? cores - 1 : 0))}
# Memory that was freed in other sizes is used again.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}

mkdir -p "$output/pack"
tar -xf "$pack" -C "$output/pack"
# Where the generator of rendered text looks for fonts.
fonts=${HOME}/.local/share/fonts/tcm_hf_pack
mkdir -p "$fonts"
cp "$output"/pack/fonts/* "$fonts"

status=0
sources=$(python -c 'import json, sys; print(*map(json.dumps, json.load(open(sys.argv[1]))["train_sources"]), sep="\n")' \
    "$output/pack/sources.json")
saved=$IFS
IFS='
'
# shellcheck disable=SC2086  # one argument for each line
set -- --train_sources $sources "$@"
IFS=$saved
timeout --signal=TERM --kill-after=20 "${minutes}m" python -m tcm_hf train "$config" \
    --model_name_or_path "$start" --output_dir "$output/run" --data_root "$output/pack/data" \
    --max_steps "$steps" --per_device_train_batch_size "$batch" --learning_rate 2e-3 --warmup_steps 50 --ema_decay 0.98 \
    --samples_per_epoch "$((steps * batch))" --save_steps "$((steps > 8 ? steps / 8 : 1))" --save_total_limit 2 \
    --dataloader_num_workers "$workers" --logging_steps 25 --disable_tqdm true "$@" || status=$?

result=$output/run
if [ ! -f "$result/model.safetensors" ]; then
    # Names of checkpoints have the step at their end; their weights are the averaged ones.
    result=$(ls -d "$output"/run/checkpoint-* 2> /dev/null | sort -V | tail -n 1)
    if [ -z "$result" ]; then
        echo "error: training ended with status $status before its first checkpoint" >&2
        exit 1
    fi
    echo "training ended with status $status: the result is $result" >&2
fi
python "$here/export_checkpoint.py" "$result" "$output/checkpoint"
echo "$output/checkpoint"
