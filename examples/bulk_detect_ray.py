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
Detects text in millions of images on Ray: parquet files or folders of images in, parquet files out.

    pip install 'ray[data]'
    python examples/bulk_detect_ray.py images/ found/ --num_workers 2
    ray job submit --working-dir . -- python examples/bulk_detect_ray.py s3://bucket/shards s3://bucket/found \
        --address auto --num_workers 64 --gpus_per_worker 0.25 --batch_size 16

A shard is a parquet file with a column of images, or a number of image files of a folder. Each becomes one file of the output, with
a row for every image: its name, width, height and detections, or the error of one that could not be read. A file is
there as a whole or not at all, so that the same command goes on where a run was stopped, whatever stopped it. What the run
is about is noted in `plan.json` of the output beforehand: another model or other images need another output.

Only names travel through Ray; workers read and write the storage themselves, through fsspec (s3://, gs://, hdfs://, a shared
folder).
"""

import argparse
import io
import json
import os
import posixpath
import sys
import uuid
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from tcm_hf.output_files import exclusive


# Nothing is sent to the makers of Ray.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

BOX = pa.struct([(name, pa.int32()) for name in ("xmin", "ymin", "xmax", "ymax")])
DETECTION = pa.struct(
    [("score", pa.float64()), ("label", pa.string()), ("box", BOX), ("polygon", pa.list_(pa.list_(pa.float64())))]
)
#: The columns of the output.
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("row", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("detections", pa.list_(DETECTION)),
        ("error", pa.string()),
    ]
)


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", help="folder (or fsspec address) of parquet files or of images, searched with its subfolders")
    add("output", help="folder (or fsspec address) for one parquet file for each shard")
    add(
        "--model",
        default="tcm-tiny",
        help="checkpoint: directory that all workers see, Hub id, or a name in the package",
    )
    add("--image_column", default="image", help="of parquet files: bytes of an image, or the Hub's bytes and path")
    add("--shard_size", type=int, default=1000, help="image files in a shard (default: 1000)")
    add("--batch_size", type=int, default=1, help="images per forward pass (default: 1)")
    add("--threshold", type=float, help="lowest score (default: the model's)")
    add("--shape", choices=("polygon", "quad", "box"), help="shape of the texts (default: the model's)")
    add("--max_pixels", type=int, help="images of more pixels (width x height) are rows with an error")
    add = parser.add_argument_group("Ray").add_argument
    add("--num_workers", type=int, default=2, help="workers, each with a model; 0: this process alone, without Ray")
    add(
        "--cpus_per_worker",
        type=float,
        default=1.0,
        help="cores of each worker, which its threads keep to (default: 1)",
    )
    add("--gpus_per_worker", type=float, default=0.0, help="share of a GPU of each worker, such as 0.25 (default: 0)")
    add(
        "--address",
        help="of a Ray cluster, such as 'auto' on one of its machines (default: a new one on this machine)",
    )
    add("--object_store_mb", type=int, default=200, help="memory for Ray's objects, on this machine (default: 200)")
    return parser.parse_args(argv)


# --------------------------------------------------------------------------------------- shards


def plan_shards(arguments):
    """What there is to do: the settings that results depend on, and the shards, each with a name and its files."""
    fs, root = fsspec.url_to_fs(arguments.input)
    if not fs.exists(root):
        raise SystemExit(f"{arguments.input}: there is no such file or folder; check the path")
    files = sorted(fs.find(root))
    tables = [file for file in files if file.endswith(".parquet")]
    if tables:
        shards = [
            {"name": shard_name(posixpath.relpath(file, root), number), "files": [file]}
            for number, file in enumerate(tables)
        ]
    else:
        from tcm_hf.model.image_loading import IMAGE_SUFFIXES

        images = [file for file in files if file.lower().endswith(IMAGE_SUFFIXES)]
        if not images:
            raise SystemExit(f"{arguments.input}: holds neither parquet files nor images")
        parts = [images[start : start + arguments.shard_size] for start in range(0, len(images), arguments.shard_size)]
        shards = [{"name": f"{number:06d}", "files": part} for number, part in enumerate(parts)]
    settings = {
        name: getattr(arguments, name)
        for name in ("input", "model", "image_column", "threshold", "shape", "max_pixels")
    }
    return {"settings": settings, "parquet": bool(tables), "root": root, "shards": shards}


def shard_name(path, number):
    """A name for the output that no other shard has; paths of subfolders may differ in their slashes only."""
    stem = posixpath.splitext(posixpath.basename(path))[0] or "shard"
    return f"{number:06d}-{stem}"


def note_plan(arguments):
    """The plan of this output: a new one, or that of the run that this one goes on with."""
    fs, folder = fsspec.url_to_fs(arguments.output)
    fs.makedirs(folder, exist_ok=True)
    path, plan = posixpath.join(folder, "plan.json"), plan_shards(arguments)
    if fs.exists(path):
        noted = json.loads(fs.cat_file(path))
        if noted != plan:
            what = "settings" if noted["settings"] != plan["settings"] else "images"
            raise SystemExit(
                f"{arguments.output} is of a run with other {what} (see its plan.json); choose another output"
            )
    else:
        write_whole(fs, path, json.dumps(plan).encode())
    return plan


def write_whole(fs, path, content):
    """Writes a file that is never there in part."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        fs.pipe_file(temporary, content)
        fs.mv(temporary, path)
    except BaseException:
        if fs.exists(temporary):
            fs.rm_file(temporary)
        raise


def open_shards(plan, output):
    """The shards that have no output yet; what a killed run left half-written goes."""
    fs, folder = fsspec.url_to_fs(output)
    there = {posixpath.basename(file) for file in fs.ls(folder, detail=False)}
    for name in there:
        if name.endswith(".tmp"):
            fs.rm_file(posixpath.join(folder, name))
    return [shard for shard in plan["shards"] if f"{shard['name']}.parquet" not in there]


# --------------------------------------------------------------------------------------- a worker


class ShardDetector:
    """
    Detects text in shards. Ray keeps one in each worker, so that the model is loaded once.

    Args:
        plan (`dict`): of `plan_shards`, without its shards.
        arguments (`argparse.Namespace`): of `parse_arguments`.
    """

    def __init__(self, plan, arguments):
        import torch
        from transformers import pipeline

        import tcm_hf
        from tcm_hf.checkpoints import find_checkpoint

        torch.set_num_threads(max(1, int(arguments.cpus_per_worker)))
        self.plan, self.arguments = plan, arguments
        given = {name: getattr(arguments, name) for name in ("threshold", "shape", "max_pixels")}
        self.pipeline = pipeline(
            "text-detection",
            model=find_checkpoint(arguments.model),
            pipeline_class=tcm_hf.TextDetectionPipeline,
            trust_remote_code=False,
            # Ray shows each worker only the GPU that it has a share of.
            device="cuda" if arguments.gpus_per_worker else "cpu",
            **{name: value for name, value in given.items() if value is not None},
        )

    def __call__(self, batch):
        """Ray's batch of shards, as columns, to a batch of what was done."""
        done = [self.run(json.loads(shard)) for shard in batch["shard"]]
        return {name: [each[name] for each in done] for name in ("name", "images", "errors", "problem")}

    def run(self, shard):
        """One shard, from its files to its output; a shard that cannot be read costs no other one."""
        fs, folder = fsspec.url_to_fs(self.arguments.output)
        summary = {"name": shard["name"], "images": 0, "errors": 0, "problem": ""}
        content = io.BytesIO()
        try:
            with pq.ParquetWriter(content, SCHEMA) as writer:
                for rows in self.detect(self.sources(shard)):
                    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                    summary["images"] += len(rows)
                    summary["errors"] += sum(row["error"] is not None for row in rows)
            write_whole(fs, posixpath.join(folder, f"{shard['name']}.parquet"), content.getvalue())
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            summary["problem"] = f"{', '.join(shard['files'][:1])}: {' '.join(str(error).split())}"
        return summary

    def sources(self, shard):
        """Name, number and content of every image, one by one."""
        fs, _ = fsspec.url_to_fs(self.arguments.input)
        if not self.plan["parquet"]:
            for number, file in enumerate(shard["files"]):
                yield posixpath.relpath(file, self.plan["root"]), number, lambda file=file: fs.cat_file(file)
            return
        [file] = shard["files"]
        number = 0
        with fs.open(file, "rb") as opened:
            table = pq.ParquetFile(opened)
            if self.arguments.image_column not in table.schema_arrow.names:
                raise ValueError(
                    f"no column {self.arguments.image_column!r}; it has {', '.join(table.schema_arrow.names)}"
                )
            for batch in table.iter_batches(64, columns=[self.arguments.image_column]):
                for value in batch.column(0).to_pylist():
                    entry = value if isinstance(value, dict) else {"bytes": value}
                    name = entry.get("path") or f"{posixpath.basename(file)}#{number}"
                    yield name, number, lambda entry=entry: entry.get("bytes")
                    number += 1

    def detect(self, sources):
        """Rows of the output, a batch at a time."""
        from tcm_hf.model.image_loading import load_rgb_image

        limit = self.arguments.max_pixels or self.pipeline.image_processor.max_pixels
        waiting = []  # rows, and their images where they could be read
        for name, number, read in sources:
            row, image = {"image": name, "row": number, "error": None}, None
            try:
                content = read()
                if content is None:
                    raise ValueError("the row holds no image")
                image = load_rgb_image(content, max_pixels=limit)
                row |= {"width": image.width, "height": image.height}
            except (OSError, ValueError, TypeError) as error:
                row["error"] = " ".join(str(error).split())
            waiting.append((row, image))
            if len(waiting) >= self.arguments.batch_size:
                yield self.finish(waiting)
                waiting = []
        if waiting:
            yield self.finish(waiting)

    def finish(self, waiting):
        """The rows, with the detections of their images."""
        pairs = [(row, image) for row, image in waiting if image is not None]
        for (row, _), found in zip(pairs, self.detect_batch([image for _, image in pairs])):
            row["error" if isinstance(found, str) else "detections"] = found
        return [row for row, _ in waiting]

    def detect_batch(self, images):
        """The detections of each image, or why there are none: one image does not cost the others."""
        try:
            return self.pipeline(images, batch_size=len(images)) if images else []
        except Exception as error:
            if len(images) == 1:
                return [" ".join(str(error).split())]
        return [self.detect_batch([image])[0] for image in images]


# --------------------------------------------------------------------------------------- Ray


def run_on_ray(plan, shards, arguments):
    """What the workers did, shard by shard, as it comes."""
    import ray

    # Workers on other machines need the package, too; there it is installed, or a part of the job's working directory.
    local = (
        {}
        if arguments.address
        else {
            "num_cpus": max(1, round(arguments.num_workers * arguments.cpus_per_worker)),
            "object_store_memory": arguments.object_store_mb * 2**20,
            "include_dashboard": False,
        }
    )
    ray.init(address=arguments.address or "local", **local)
    try:
        dataset = ray.data.from_items(
            [{"shard": json.dumps(shard)} for shard in shards], override_num_blocks=len(shards)
        )
        done = dataset.map_batches(
            ShardDetector,
            fn_constructor_args=({name: value for name, value in plan.items() if name != "shards"}, arguments),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(arguments.num_workers, len(shards))),
            num_cpus=arguments.cpus_per_worker,
            num_gpus=arguments.gpus_per_worker or None,
        )
        yield from done.iter_rows()
    finally:
        ray.shutdown()


def main(argv=None):
    arguments = parse_arguments(argv)
    if "://" not in arguments.input:  # workers have other working directories
        arguments.input = str(Path(arguments.input).resolve())
    if "://" not in arguments.output:
        arguments.output = str(Path(arguments.output).resolve())
        with exclusive(arguments.output):
            return detect_all(arguments)
    return detect_all(arguments)


def detect_all(arguments):
    """Detects in the shards that are left; the exit code."""
    plan = note_plan(arguments)
    shards = open_shards(plan, arguments.output)
    print(f"{len(plan['shards'])} shards, {len(plan['shards']) - len(shards)} of them done before", flush=True)
    failed = images = errors = 0
    if shards:
        if arguments.num_workers:
            results = run_on_ray(plan, shards, arguments)
        else:
            detector = ShardDetector(plan, arguments)
            results = (detector.run(shard) for shard in shards)
        for count, result in enumerate(results, 1):
            images, errors = images + int(result["images"]), errors + int(result["errors"])
            if result["problem"]:
                failed += 1
                print(f"{result['name']}: error: {result['problem']}", file=sys.stderr, flush=True)
            print(f"{count} of {len(shards)}: {result['name']}, {result['images']} images", flush=True)
    print(f"{images} images, {errors} of them not readable; {failed} shards failed", flush=True)
    return 1 if failed or errors else 0


if __name__ == "__main__":
    sys.exit(main())
