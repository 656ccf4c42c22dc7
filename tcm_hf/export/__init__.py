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
Networks for runtimes that need no PyTorch: ONNX Runtime and OpenVINO. `tcm_hf.export.folder` makes a folder that
runs by itself, `tcm_hf.export.runtime` is what runs in it, and `tcm_hf.export.model` brings it back into a pipeline.
"""
