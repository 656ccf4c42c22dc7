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
"""The demo as a Space of the Hugging Face Hub; on your own computer, `tcm-hf demo` is the same."""

import os

from tcm_hf.commands.demo import open_demo, serve


if __name__ == "__main__":
    with open_demo(os.environ.get("TCM_HF_DEMO_MODELS", "").split()) as page:
        serve(page)  # at the address and the port that the Hub's variables name
