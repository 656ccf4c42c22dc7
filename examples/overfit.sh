#!/bin/sh
# Learns eight photos by heart: a check that data, targets, losses, model, decoding and scoring fit together. The hmean on
# the same photos has to come above 0.9.
#
#   sh examples/overfit.sh IMAGE_DIR GT_DIR DETECTOR OUTPUT_DIR [further arguments of train_text_detection.py]
#
# IMAGE_DIR and GT_DIR are ICDAR 2015's training set (img_N.jpg, gt_img_N.txt), DETECTOR is db, pan or fce.
set -eu
images=$1 gt=$2 detector=$3 output=$4
shift 4
here=$(dirname "$0")
size="--crop_size 320 --scale 0.6 0.65 --image_size 448 800"
# FCE's finest cells have 8 pixels: at that size, a word's centre region would be thinner than a cell.
[ "$detector" != fce ] || size="--crop_size 384 --scale 0.95 1.05 --image_size 720 1280"
python "$here/train_text_detection.py" --config_name "$here/configs/tcm-tiny.json" --detector "$detector" \
    --image_dir "$images" --gt_dir "$gt" --subset_file "$here/overfit_photos.txt" --evaluate_on_train \
    $size --rotation 0 --flip 0 --samples_per_epoch 800 \
    --per_device_train_batch_size 4 --learning_rate 2e-3 --lr_scheduler_type cosine --warmup_steps 20 --ema_decay 0.98 \
    --max_steps 800 --eval_strategy steps --eval_steps 200 --save_steps 200 --save_total_limit 1 --logging_steps 20 \
    --output_dir "$output" "$@"
