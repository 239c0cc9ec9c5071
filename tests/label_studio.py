"""A Label Studio on loopback that answers as version 1.23 was seen to."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def make_jwt(**claims):
    parts = [{"alg": "HS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2ln"])


PERSONAL = make_jwt(token_type="refresh", exp=9_999_999_999)


DROP = "drop"


class LabelStudio:
    """State of the stand-in, and what it was asked.

    `stores_in_parts` is how many predictions it stores at a time in a bulk import, whatever it says of the rest; 0 is
    all or nothing.

    `trouble(method, path)` may answer a status to refuse the request with, or DROP: do it, then drop the connection.
    """

    def __init__(self):
        self.calls = []
        self.keys = {f"Token {LEGACY}"}
        self.refreshes = 0
        self.fail_with = None
        self.trouble = None
        self.projects = {}
        self.tasks = {}
        self.predictions = []
        self.backends = []
        self.webhooks = []
        self.refuse_private = False
        self.leave_half_made = False
        self.html = False
        self.unauthorized = "Invalid token."
        self.redirect_to = None
        self.stores_in_parts = 0

    def add_project(self, number, label_config, tasks=(), model_version=""):
        self.projects[number] = {
            "id": number,
            "title": "cats",
            "label_config": label_config,
            "model_version": model_version,
        }
        for task in tasks:
            self.tasks[task] = {"id": task, "project": number, "data": {"image": f"https://e.org/{task}.jpg"}}

    def calls_to(self, method, path):
        return [call for call in self.calls if call[0] == method and call[1] == path]

    def handle(self, method, path, query, body):
        for pattern, names, handler in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in names:
                return getattr(self, handler)(method, query, body, *map(int, match.groups()))
        return 404, {"detail": "Not found."}

    def whoami(self, method, query, body):
        return 200, {"id": 1, "email": "lead@example.org"}

    def project(self, method, query, body, number):
        if number not in self.projects:
            return 404, {"detail": "No Project matches the given query."}
        if method == "PATCH":
            known = {p["model_version"] for p in self.predictions} | {b["title"] for b in self.backends}
            if body["model_version"] not in known:
                return 400, {"validation_errors": {"model_version": ["unknown"]}}
            self.projects[number].update(body)
        return 200, self.projects[number]

    def bulk(self, method, query, body, number):
        from label_studio_sdk.label_interface import LabelInterface

        if number not in self.projects:
            return 404, {"detail": "No Project matches the given query."}
        missing = [p["task"] for p in body if p["task"] not in self.tasks]
        if missing:
            size = self.stores_in_parts
            for part in (body[start : start + size] for start in range(0, len(body), size)) if size else ():
                if any(p["task"] in missing for p in part):
                    break
                self.predictions += part
            return 400, {"validation_errors": {"non_field_errors": [f"task {missing[0]} does not exist"]}}
        interface = LabelInterface(self.projects[number]["label_config"])
        good = [p for p in body if interface.validate_prediction(p)]
        self.predictions += good
        return 201, {"created": len(good)}

    def prediction(self, method, query, body):
        if method == "GET":
            task = int(query["task"][0])
            return 200, [{"id": 1, **p} for p in self.predictions if p["task"] == task]
        if body["task"] not in self.tasks:
            return 400, {"detail": "Validation error", "validation_errors": {"task": ["Invalid pk"]}}
        self.predictions.append(body)
        return 201, {"id": len(self.predictions), **body}

    def list_tasks(self, method, query, body):
        project, page, size = (int(query[name][0]) for name in ("project", "page", "page_size"))
        asked = json.loads(query["query"][0]) if "query" in query else {}
        found = [
            {
                **task,
                "updated_at": "",
                "predictions": [{"id": id(p), **p} for p in self.predictions if p["task"] == task["id"]],
                "predictions_model_versions": ",".join(
                    {p["model_version"] for p in self.predictions if p["task"] == task["id"]}
                ),
            }
            for task in self.tasks.values()
            if task["project"] == project
        ]
        for one in asked.get("filters", {}).get("items", []):
            found = [task for task in found if self.matches(task, one)]
        found.sort(key=lambda task: task["id"], reverse=asked.get("ordering") == ["tasks:-id"])
        fields = set(query["include"][0].split(",")) if "include" in query else None
        listed = [
            {name: value for name, value in task.items() if fields is None or name in fields}
            for task in found[(page - 1) * size : page * size]
        ]
        return 200, {"total": len(found), "tasks": listed}

    @staticmethod
    def matches(task, one):
        name, operator, value = one["filter"].removeprefix("filter:tasks:"), one["operator"], one["value"]
        if name == "updated_at":
            return False
        if name == "total_annotations":
            return (task.get("total_annotations", 0) > value) == (operator == "greater")
        if name == "id":
            compared = {"greater": task["id"].__gt__, "less": task["id"].__lt__}
            return compared[operator](value) if operator in compared else task["id"] in value
        has = any(part in task[name] for part in value)
        return has if operator == "contains" else not has

    def one_prediction(self, method, query, body, number):
        self.predictions = [p for p in self.predictions if id(p) != number]
        return 204, None

    def versions(self, method, query, body, number):
        mine = [p for p in self.predictions if self.tasks[p["task"]]["project"] == number]
        if method == "DELETE":
            self.predictions = [p for p in self.predictions if p["model_version"] != body["model_version"]]
            shown = self.projects[number]["model_version"]
            titles = {b["title"] for b in self.backends if b["project"] == number}
            if shown == body["model_version"] or shown in titles:
                self.projects[number]["model_version"] = None
            return 200, {}
        counts = {v: sum(p["model_version"] == v for p in mine) for v in {p["model_version"] for p in mine}}
        return 200, {"static": [{"model_version": v, "count": count} for v, count in counts.items()], "live": None}

    def ml(self, method, query, body, number=None):
        if method == "GET":
            return 200, [b for b in self.backends if b["project"] == int(query["project"][0])]
        if method == "DELETE":
            self.backends = [b for b in self.backends if b["id"] != number]
            return 204, None
        if method == "PATCH":
            if "url" not in body or "project" not in body:
                return 500, {"detail": "KeyError"}
            backend = next(b for b in self.backends if b["id"] == number)
            if self.projects[backend["project"]]["model_version"] == backend["title"]:
                self.projects[backend["project"]]["model_version"] = body["title"]
            backend.update(body, basic_auth_pass_is_set="basic_auth_pass" in body)
            return 200, backend
        backend = {"id": len(self.backends) + 1, "state": "CO", "readable_state": "Connected", **body}
        backend["basic_auth_pass_is_set"] = "basic_auth_pass" in body
        if self.refuse_private:
            if self.leave_half_made:
                self.backends.append(backend)
            return 403, {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"}
        self.backends.append(backend)
        url = body["url"] + "/webhook"
        if all(hook["url"] != url for hook in self.webhooks):
            self.webhooks.append({"id": 1, "url": url, "project": body["project"], "headers": {}})
        project = self.projects[body["project"]]
        project["model_version"] = project["model_version"] or body["title"]
        return 201, backend

    def media(self, method, query, body, number):
        return 200, {"an image of project": number}

    def hooks(self, method, query, body, number=None):
        if method == "GET":
            return 200, [hook for hook in self.webhooks if hook["project"] == int(query["project"][0])]
        if method == "DELETE":
            self.webhooks = [hook for hook in self.webhooks if hook["id"] != number]
            return 204, None
        if method == "PATCH":
            next(hook for hook in self.webhooks if hook["id"] == number).update(body)
            return 200, {}
        self.webhooks.append({"id": len(self.webhooks) + 1, **body})
        return 201, self.webhooks[-1]

    def list_projects(self, method, query, body):
        return 200, {"count": len(self.projects), "results": list(self.projects.values())}

    def version(self, method, query, body):
        return 200, {"release": "1.23.2"}


ROUTES = [
    (r"/api/projects/", {"GET"}, "list_projects"),
    (r"/api/version", {"GET"}, "version"),
    (r"/api/current-user/whoami", {"GET"}, "whoami"),
    (r"/api/projects/(\d+)/", {"GET", "PATCH"}, "project"),
    (r"/api/projects/(\d+)/import/predictions", {"POST"}, "bulk"),
    (r"/api/predictions/", {"GET", "POST"}, "prediction"),
    (r"/api/predictions/(\d+)/", {"DELETE"}, "one_prediction"),
    (r"/api/projects/(\d+)/model-versions", {"GET", "DELETE"}, "versions"),
    (r"/api/tasks", {"GET"}, "list_tasks"),
    (r"/api/ml", {"GET", "POST"}, "ml"),
    (r"/api/ml/(\d+)", {"PATCH", "DELETE"}, "ml"),
    (r"/data/upload/(\d+)/[^/]+", {"GET"}, "media"),
    (r"/api/webhooks/", {"GET", "POST"}, "hooks"),
    (r"/api/webhooks/(\d+)/", {"PATCH", "DELETE"}, "hooks"),
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        state = self.server.state
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.loads(raw) if raw else None
        authorization = self.headers.get("authorization", "")
        state.calls.append((self.command, parts.path, body, authorization))
        if state.redirect_to:
            return self.reply(301, None, location=state.redirect_to + self.path)
        if state.html:
            return self.reply(200, "<html>sign in</html>", "text/html")
        if state.fail_with:
            return self.reply(state.fail_with, {"detail": "down"})
        trouble = state.trouble and state.trouble(self.command, parts.path)
        if isinstance(trouble, int):
            return self.reply(trouble, {"detail": "busy"}, retry_after=1)
        if parts.path == "/api/token/refresh/":
            if body != {"refresh": PERSONAL}:
                return self.reply(401, {"detail": "Token is invalid", "code": "token_not_valid"})
            state.refreshes += 1
            access = make_jwt(token_type="access", iat=1000, exp=1300, n=state.refreshes)
            state.keys = {f"Bearer {access}"}
            return self.reply(200, {"access": access})
        if authorization not in state.keys:
            return self.reply(401, {"detail": state.unauthorized})
        answer = state.handle(self.command, parts.path, parse_qs(parts.query), body)
        if trouble:
            self.close_connection = True
            return None  # done, and nobody is told
        return self.reply(*answer)

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    def reply(self, status, body, kind="application/json", location=None, retry_after=None):
        content = b"" if body is None else body.encode() if kind == "text/html" else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        if location:
            self.send_header("location", location)
        if retry_after:
            self.send_header("retry-after", str(retry_after))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def running() -> Iterator[LabelStudio]:
    """The stand-in's state; `.url` is where it listens."""
    server = Server(("127.0.0.1", 0), Handler)
    server.state = LabelStudio()
    server.state.url = f"http://127.0.0.1:{server.server_port}"
    server.state.legacy, server.state.personal = LEGACY, PERSONAL
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.state
    server.shutdown()
    thread.join()
    server.server_close()
