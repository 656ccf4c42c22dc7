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
"""A small server on localhost that speaks the part of the Hugging Face Hub's HTTP interface that models and reading data sets need.

Repositories live in memory; the names of data sets begin with `datasets/`. Clients find the server through the environment variable `HF_ENDPOINT`, which
huggingface_hub reads when it is imported; `HF_HUB_DISABLE_XET=1` makes it upload over plain HTTP.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


USER = "tester"


class HubServer:
    """
    The server, as a context manager.

    Attributes:
        requests (`list[tuple[str, str]]`): method and path of every request so far.
    """

    def __init__(self):
        self.requests: list[tuple[str, str]] = []
        # repository id -> revision (a branch or a commit's id) -> path -> content; branches also have a commit's id.
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, repo_id: str, changes: dict[str, bytes | None], branch: str = "main") -> str:
        """
        Adds a commit on a branch; makes the repository or the branch where there is none.

        Args:
            repo_id (`str`): repository.
            changes (`dict[str, bytes | None]`): new contents of files by path, `None` deletes.
            branch (`str`, *optional*, defaults to `"main"`): branch.

        Returns:
            `str`: the commit's id.
        """
        with self.lock:
            branches = self.branches.setdefault(repo_id, {})
            commits = self.commits.setdefault(repo_id, {})
            parent = branches.get(branch) or branches.get("main")
            files = {**commits.get(parent, {}), **changes}
            files = {path: content for path, content in files.items() if content is not None}
            commit = hashlib.sha1(f"{repo_id} {parent} {len(commits)}".encode()).hexdigest()
            commits[commit] = files
            branches[branch] = commit
            return commit

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """All files of a repository at a branch or a commit."""
        commit = self.branches[repo_id].get(revision, revision)
        return self.commits[repo_id][commit]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *arguments):
        pass

    def _answer(self) -> None:
        hub: HubServer = self.server.hub
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for method, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                return function(self, hub, **match.groupdict())
        self._send(404, {"error": f"{self.command} {path} is not served here"})

    def _send(self, status: int, content: dict | list | bytes, **headers: str) -> None:
        if isinstance(content, dict | list):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _fail(self, code: str, message: str) -> None:
        self._send(404, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def _revision(self, hub: HubServer, repo: str, revision: str) -> str | None:
        """The commit that a revision stands for; answers with an error where there is none."""
        commit = hub.branches.get(repo, {}).get(revision, revision)
        if repo not in hub.branches:
            self._fail("RepoNotFound", "Repository not found")
        elif commit not in hub.commits[repo]:
            self._fail("RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return commit
        return None

    # ------------------------------------------------------------------ what is served

    def who_am_i(self, hub):
        self._send(200, {"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create_repo(self, hub):
        request = json.loads(self.body)
        repo = f"{request.get('organization') or USER}/{request['name']}"
        status = 409 if repo in hub.branches else 200
        if status == 200:
            hub.commit(repo, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self._send(status, {"url": f"{hub.url}/{repo}", "name": repo, "id": repo})

    def validate_yaml(self, hub):
        self._send(200, {"warnings": [], "errors": []})

    def create_branch(self, hub, repo, branch):
        if branch in hub.branches.get(repo, {}):
            return self._send(409, {"error": "Reference already exists"})
        hub.commit(repo, {}, branch)
        self._send(201, {})

    def repo_info(self, hub, repo, revision=None):
        commit = self._revision(hub, repo, revision or "main")
        if commit is not None:
            siblings = [{"rfilename": path} for path in sorted(hub.commits[repo][commit])]
            self._send(
                200, {"_id": repo, "id": repo, "sha": commit, "private": False, "siblings": siblings, "tags": []}
            )

    def tree(self, hub, repo, revision, path=None):
        """Files and folders of a folder; with `recursive` also what is below."""
        commit = self._revision(hub, repo, revision)
        if commit is None:
            return
        prefix = f"{path}/" if path else ""
        below = {file: data for file, data in hub.commits[repo][commit].items() if file.startswith(prefix)}
        if not below:
            return self._fail("EntryNotFound", f"{path} does not exist")
        deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {file[:place] for file in below for place in range(len(prefix), len(file)) if file[place] == "/"}
        names = [name for name in sorted(folders | set(below)) if deep or "/" not in name[len(prefix) :]]
        self._send(200, [_entry(name, below.get(name)) for name in names])

    def paths_info(self, hub, repo, revision):
        commit = self._revision(hub, repo, revision)
        if commit is not None:
            files = hub.commits[repo][commit]
            paths = json.loads(self.body)["paths"] if self.body[:1] == b"{" else parse_qs(self.body.decode())["paths"]
            found = [path for path in paths if any(f"{file}/".startswith(f"{path}/") for file in files)]
            self._send(200, [_entry(path, files.get(path)) for path in found])

    def preupload(self, hub, repo, revision):
        commit = self._revision(hub, repo, revision)
        if commit is not None:
            answer = []
            for file in json.loads(self.body)["files"]:
                mode = "lfs" if file["path"].endswith((".safetensors", ".bin")) else "regular"
                content = hub.commits[repo][commit].get(file["path"])
                oid = None if content is None else _etag(file["path"], content)
                answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self._send(200, {"files": answer})

    def lfs_batch(self, hub, repo):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in hub.uploads:
                answer["actions"] = {"upload": {"href": f"{hub.url}/upload/{wanted['oid']}"}}
            objects.append(answer)
        self._send(200, {"transfer": "basic", "objects": objects})

    def lfs_upload(self, hub, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._send(400, {"error": "the content does not have this SHA-256"})
        hub.uploads[oid] = self.body
        self._send(200, {})

    def commit(self, hub, repo, revision):
        if self._revision(hub, repo, revision) is None:
            return
        changes: dict[str, bytes | None] = {}
        for line in self.body.decode().splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                changes[value["path"]] = hub.uploads[value["oid"]]
            elif key == "deletedFile":
                changes[value["path"]] = None
        commit = hub.commit(repo, changes, revision)
        self._send(200, {"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{repo}/commit/{commit}"})

    def resolve(self, hub, repo, revision, path):
        commit = self._revision(hub, repo, revision)
        if commit is None:
            return
        content = hub.commits[repo][commit].get(path)
        if content is None:
            return self._fail("EntryNotFound", "Entry not found")
        etag = f'"{_etag(path, content)}"'
        headers = {"X_Repo_Commit": commit, "ETag": etag, "Content_Type": "application/octet-stream"}
        if path.endswith((".safetensors", ".bin")):
            headers.update(X_Linked_Etag=etag, X_Linked_Size=str(len(content)))
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if part is None:
            return self._send(200, content, Accept_Ranges="bytes", **headers)
        first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
        headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], **headers)


def _etag(path: str, content: bytes) -> str:
    """SHA-256 of a large file's content, or git's id of any other."""
    if path.endswith((".safetensors", ".bin")):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes | None) -> dict:
    """A file of a listing, or a folder, which has no content."""
    if content is None:
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
    return {"type": "file", "path": path, "oid": _etag(path, content), "size": len(content)}


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_DATASET = r"(?P<repo>datasets/[^/]+/[^/]+)"
_ROUTES = [
    ("GET", "/api/whoami-v2", _Handler.who_am_i),
    ("POST", "/api/repos/create", _Handler.create_repo),
    ("POST", "/api/validate-yaml", _Handler.validate_yaml),
    ("POST", rf"/api/models/{_REPO}/branch/(?P<branch>.+)", _Handler.create_branch),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>.+)", _Handler.commit),
    ("GET", rf"/api/models/{_REPO}(/revision/(?P<revision>.+))?", _Handler.repo_info),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", "/upload/(?P<oid>[0-9a-f]{64})", _Handler.lfs_upload),
    ("GET", rf"/api/{_DATASET}(/revision/(?P<revision>[^/]+))?", _Handler.repo_info),
    ("GET", rf"/api/{_DATASET}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", _Handler.tree),
    ("POST", rf"/api/{_DATASET}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    ("GET HEAD", rf"/{_DATASET}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    ("GET HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]
