#!/bin/sh
# Learns eight photos by heart: a check that data, targets, losses, model, decoding and scoring fit together. The hmean on
# the same photos has to come above 0.9.
#
#   sh examples/overfit.sh IMAGE_DIR GT_DIR DETECTOR OUTPUT_DIR [further arguments of train_text_detection.py]
#
# IMAGE_DIR and GT_DIR are ICDAR 2015's training set (img_N.jpg, gt_img_N.txt; the photos may be resized copies), DETECTOR is
# db, pan or fce.
set -eu
images=$1 gt=$2 detector=$3 output=$4
shift 4
here=$(dirname "$0")
settings="{}" multipliers="{}"
if [ "$detector" = fce ]; then
    # FCE's own width of 256 is that of a model of RN50's size: next to this image tower it makes a step twice as long. Its
    # head tells lengths, not only classes: at the full rate it takes hundreds of steps to get back from its first ones.
    settings='{"neck_channels": 64}' multipliers='{"detector": 0.3}'
fi
python "$here/train_text_detection.py" --config_name "$here/overfit.json" --detector "$detector" \
    --detector_settings "$settings" \
    --image_dir "$images" --gt_dir "$gt" --frame_size 720 1280 --subset_file "$here/overfit_photos.txt" --evaluate_on_train \
    --crop_size 320 --scale 0.6 0.65 --image_size 448 800 --rotation 0 --flip 0 --samples_per_epoch 800 \
    --per_device_train_batch_size 4 --learning_rate 2e-3 --lr_scheduler_type cosine --warmup_steps 20 --ema_decay 0.98 \
    --lr_multipliers "$multipliers" --max_steps 800 --eval_strategy steps --eval_steps 400 --save_steps 400 \
    --save_total_limit 1 --logging_steps 20 --output_dir "$output" "$@"
