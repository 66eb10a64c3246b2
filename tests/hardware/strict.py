"""A service that is as awkward as IBM's may be, under a clock that only waiting moves.

Its behavior and the sources of each rule (file names are those of qiskit-ibm-runtime 0.50):

- A list of jobs by tag comes in pages, sorted by creation (``qiskit_runtime_service.jobs``: limit, offset, count,
  sort); each instance has a list of its own (``api/auth.py``: every request names its Service-CRN).
- A job shows up in that list up to 120 s after it was made, and its state there is as old. No documentation promises
  anything better; the count may know of a job before the page does.
- A submission that is answered by 500, 502, 503, 504 or not at all may have created a job
  (Qiskit/qiskit-ibm-runtime#1114: one submission, answered by 500 and repeated, created six jobs), up to 60 s
  later. The client waits 900 s for the answer (``api/rest/runtime.py: program_run``, #662).
- Cancelling a job that has ended is 409 (``runtime_job_v2.cancel`` has a branch for it); a job that was deleted is 404
  (``qiskit_runtime_service.job``, ``delete_job``).
- Submissions are limited to five a minute (quantum.cloud.ibm.com/docs/api, Jobs, Run a job): 429, with ``Retry-After``
  as seconds or as a date (RFC 9110, 10.2.3), or with a value that is neither.
- A token may expire between any two requests (401: ``api/session.py``, IBMNotAuthorizedError).
- A result may be empty, cut short, not a number, or of fewer parameter sets than were asked for.
"""

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from .loopback import CRN, Loopback

OTHER = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123:89ab-4567::"
PAGE = 2
"""Jobs of a page, fewer than requested, so that lists have several pages."""
BAD = ("empty", "cut", "nan", "fewer", "garbled")
"""The damages of a whole result."""


@dataclass
class StrictJob:
    """A job, with the times at which things happen to it."""

    id: str
    crn: str
    tags: list
    backend: str
    params: dict
    machine: str
    sent: float
    made: float
    listed: float
    ends: float
    fate: str = "Completed"
    result: str = "good"
    cancelled: float | None = None
    gone: bool = False
    unseen: list = field(default_factory=list)

    @property
    def number(self):
        return int(self.tags[1].split("-")[2])

    def status(self, now):
        if self.cancelled is not None and now >= self.cancelled:
            return "Cancelled"
        if now >= self.ends:
            return self.fate
        return "Running" if now >= self.ends - 5 else "Queued"


class Strict(Loopback):
    """The service; ``answer`` is its core, reached over 127.0.0.1 or, for many sequences, by ``send`` alone.

    Args:
        clock: tells the time.
        seed: of everything that happens by chance.
    """

    def __init__(self, clock, seed=0):
        super().__init__()
        self.clock, self.instances = clock, {CRN: "test", OTHER: "other"}
        self.machine, self.real = "A", False
        self.reset(seed)

    def reset(self, seed, chaos=0.0, lag=0.0, late=0.0, bad=0.0, length=60.0):
        """Forget every job, and show the given faults.

        chaos: the share of requests that something happens to.
        lag: seconds after which a job is listed, at most.
        late: seconds after which a job is made whose submission was not answered, at most.
        bad: the share of jobs that fail, or measure what cannot be used.
        length: seconds that a job takes, at most.
        """
        self.dice = random.Random(seed)
        self.jobs, self.seen = [], {}
        self.chaos, self.lag, self.late, self.bad, self.length = chaos, lag, late, bad, length
        self.submissions = self.unanswered = self.happened = 0

    # requests

    def job(self, method, parts, query, body):
        now = self.clock.now()
        if len(parts) == 1 and method == "POST":
            return 200, {"id": self.make(body, now).id, "backend": body["backend"]}
        if len(parts) == 1:
            return self.page(query, now)
        job = next((job for job in self.jobs if job.id == parts[1] and job.crn == self.crn), None)
        if job is None or job.gone or now < job.made:
            return 404, {"error": {"message": "Job not found", "code": 1291}}
        if len(parts) == 2:
            return 200, self.facts(job, now)
        if parts[2] == "cancel":
            if job.status(now) in ("Completed", "Failed", "Cancelled"):
                return 409, {"error": {"message": "Job cannot be cancelled", "code": 1259}}
            job.cancelled = now + self.dice.choice([0, 0, 4])  # sometimes later
            return 204, None
        if parts[2] == "metrics":
            return 200, {"usage": {"status": "complete", "qpu_charge_time_seconds": 3}}
        if job.status(now) != "Completed":
            return 200, "the device failed"
        return 200, self.measured(job)

    def make(self, body, now, delay=0.0):
        """Make a job ``delay`` seconds from now."""
        self.submissions += 1
        dice, made = self.dice, now + delay
        job = StrictJob(
            id=f"{'j' if dice.random() < 0.5 else 'd'}{self.submissions:05d}",
            crn=self.crn,
            tags=body.get("tags", []),
            backend=body["backend"],
            params=body["params"],
            machine=self.machine,
            sent=now,
            made=made,
            listed=made + dice.uniform(0, self.lag),
            ends=made + dice.uniform(5, self.length),
        )
        if dice.random() < self.bad:
            job.fate, job.result = dice.choice([("Failed", ""), *(("Completed", kind) for kind in ("some", *BAD))])
        # another job of this number that its sender could not know of: made elsewhere, and not listed when it looked
        for other in self.jobs:
            if other.tags[:1] == job.tags[:1] and other.number == job.number:
                looked = self.seen.get((self.machine, job.tags[0]), float("-inf"))
                if other.machine != self.machine and other.listed > looked:
                    job.unseen.append(other.id)
        self.jobs.append(job)
        return job

    def page(self, query, now):
        tags = set(query.get("tags", ()))
        offset, limit = int(query.get("offset", ["0"])[0]), int(query.get("limit", ["20"])[0])
        mine = [job for job in self.jobs if job.crn == self.crn and not job.gone and tags <= set(job.tags)]
        found = sorted((job for job in mine if job.listed <= now), key=lambda job: (job.made, job.id))
        if query.get("sort") != ["ASC"]:
            found.reverse()
        count = len(found) if self.dice.random() < 0.7 else sum(job.made <= now for job in mine)
        for tag in tags:
            if offset + PAGE >= len(found):
                self.seen[self.machine, tag] = now
        # the list shows an old state of a job, as old as the list is late
        rows = [self.facts(job, max(job.made, now - (job.listed - job.made))) for job in found]
        return 200, {"jobs": rows[offset : offset + min(limit, PAGE)], "count": count}

    def facts(self, job, now=None):
        state = job.status(self.clock.now() if now is None else now)
        return {
            "id": job.id,
            "backend": job.backend,
            "state": {"status": state, "reason": "the device failed" if state == "Failed" else ""},
            "status": state,
            "program": {"id": "executor"},
            "created": datetime.fromtimestamp(job.made, UTC).isoformat(),
            "tags": job.tags,
        }

    def measured(self, job):
        """Return the result, complete or damaged."""
        observables, texts = job.params["shape"]
        evs = [[0.1 * (k + 1)] * texts for k in range(observables)]
        if job.result == "fewer":
            evs = [row[:-1] for row in evs]
        if job.result == "nan":
            evs = [[float("nan")] * texts for _ in evs]
        if job.result == "some":
            evs[0][0] = float("inf")
        raw = json.dumps({"evs": evs, "stds": [[0.01] * len(row) for row in evs]})
        return {"empty": "", "cut": raw[: len(raw) // 2], "garbled": '{"evs": "none"}'}.get(job.result, raw)

    # the way of a request, without a socket

    def send(self, adapter, request, **_):
        """Replace ``requests.adapters.HTTPAdapter.send``."""
        split = urlsplit(request.url)
        kind = self.happens(request.method, split.path)
        if kind == "refused":
            raise requests.ConnectionError(MaxRetryError(None, request.url, NewConnectionError(None, "refused")))
        if kind in ("reset before", "timeout before"):
            raise _lost(kind, request)
        if isinstance(kind, tuple) and kind[1] == "before":
            return self.response(request, kind[0], json.dumps({"error": {"message": "try later", "code": 9}}), kind[2])
        self.crn = request.headers.get("Service-CRN")
        body = None if split.path.startswith("/iam") or not request.body else json.loads(request.body)
        posts = request.method == "POST" and split.path.endswith("/jobs")
        if kind is not None and posts and kind != "cut":  # the answer is lost, and the job is made some time later
            self.make(body, self.clock.now(), self.dice.uniform(0, self.late))
            self.unanswered += 1
        else:
            code, value = self.answer(request.method, split.path, parse_qs(split.query), body)
        if kind in ("reset after", "timeout after"):
            raise _lost(kind, request)
        if isinstance(kind, tuple):
            return self.response(request, kind[0], json.dumps({"error": {"message": "try later", "code": 9}}), kind[2])
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
        return self.response(request, code, text[: len(text) // 2] if kind == "cut" else text, {})

    def happens(self, method, path):
        """Return what happens to a request, by chance."""
        if path.startswith(("/iam", "/search", "/catalog")) or self.dice.random() >= self.chaos:
            return None
        self.happened += 1
        posts = method == "POST" and path.endswith("/jobs")
        kind = self.dice.choice(["refused", "reset before", "reset after", "timeout after", "cut", "5xx", "429", "401"])
        if kind == "5xx":
            after = "after" if self.dice.random() < 0.5 else "before"
            return self.dice.choice([500, 502, 503, 504]), after, {}
        if kind == "429":
            when = format_datetime(datetime.fromtimestamp(self.clock.now() + 20, UTC), usegmt=True)
            return 429, "before", {"Retry-After": self.dice.choice(["3", when, "86400", "-5", "soon", "9" * 40, ""])}
        if kind == "401":
            return 401, "after" if posts else "before", {}
        return kind

    @staticmethod
    def response(request, code, text, headers):
        response = requests.Response()
        response.status_code, response._content, response.url, response.request = (
            code,
            text.encode(),
            request.url,
            request,
        )
        response.encoding = "utf-8"
        response.headers.update({"Content-Type": "application/json"} | headers)
        return response


def _lost(kind, request):
    if kind.startswith("timeout"):
        return requests.ReadTimeout("no answer", request=request)
    return requests.ConnectionError(
        ProtocolError("Connection aborted.", ConnectionResetError(104, "reset")), request=request
    )
