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

"""What goes wrong in a command, and how it is told."""

from ..output_files import DISK_FULL, printable


# Mistakes in a program. They are never the fault of an image, and end the run with their traceback.
PROGRAMMING_ERRORS = (AssertionError, AttributeError, NameError, TypeError)


class UsageError(Exception):
    """A mistake in the command line that argparse cannot see."""


def one_line(error: Exception) -> str:
    """The message of an error, in one line."""
    text = str(error) or type(error).__name__
    if "Traceback" in text:  # transformers wraps the tracebacks of its attempts; the last error is the reason
        text = text.rsplit("Error: ", 1)[-1]
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        # Whatever writes to a file names it; `print` does not.
        text = f"cannot write to standard output ({error.strerror})" if error.errno in DISK_FULL else text
    return printable(" ".join(text.split()))
