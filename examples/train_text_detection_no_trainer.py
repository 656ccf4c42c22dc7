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
Trains or fine-tunes TCM for text detection in a loop of its own, on accelerate.

It is what `tcm-hf train` does with the Trainer, spelled out in `tcm_hf/training/loop.py`, for those who want to change the loop.
The arguments of model and data are the same:

    accelerate launch --num_processes 2 examples/train_text_detection_no_trainer.py \
        --model_name_or_path tcm-tiny --image_dir icdar2015/images --gt_dir icdar2015/gt \
        --holdout_last_digit 1 --output_dir runs/icdar2015 --max_train_steps 2000 --checkpointing_steps 500

A run on n processes is the run of one process with an n times larger batch: order of samples, loss and BatchNorm statistics
are those of the joint batch. Only dropout draws other random numbers.
"""

import logging
import os

from tcm_hf.commands.train import main
from tcm_hf.training.loop import train
from tcm_hf.training.options import LoopArguments


if __name__ == "__main__":
    # One process speaks for all.
    main(train, LoopArguments, logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
