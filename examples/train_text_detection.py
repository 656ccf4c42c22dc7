# Copyright 2026 The tcm_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
Trains or fine-tunes TCM for text detection with the Trainer of transformers, as `tcm-hf train` does.

Data come from the Hub (`--dataset_name`), from a folder that `tcm-hf prepare` wrote (`--train_dir`), or in ICDAR 2015's
form:

    python examples/train_text_detection.py --model_name_or_path tcm-tiny \
        --image_dir icdar2015/images --gt_dir icdar2015/gt --holdout_last_digit 1 --output_dir runs/icdar2015 \
        --max_steps 2000 --eval_strategy steps --eval_steps 500 --save_steps 500 --per_device_train_batch_size 8

Start from a checkpoint of this package (`--model_name_or_path`), from a CLIP model (`--clip_name_or_path`) or from scratch
(`--config_name`). Words rendered on backgrounds and on the photos themselves can be mixed in, which is what makes training
from scratch on few photos work (`--synthetic_fraction`, `--paste_probability`). `--resume_from_checkpoint last` goes on with
an interrupted run as if nothing had happened. `accelerate launch` runs the same on several processes. examples/README.md has
recipes.
"""

from tcm_hf.commands.train import main
from tcm_hf.training.arguments import TCMTrainingArguments
from tcm_hf.training.run import train


if __name__ == "__main__":
    main(train, TCMTrainingArguments)
