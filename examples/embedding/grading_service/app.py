"""The service over HTTP: problems to read, submissions to hand in."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .grading import Busy, Grader, Refused
from .problems import Problem, load
from .verdicts import Result, Verdict

MAX_BYTES = 256 * 1024
UPLOAD_S = 10.0
log = logging.getLogger("uvicorn.error")


def make_app(folder: Path, *, side_by_side: int, places: int) -> Starlette:
    """Make the service for the problems of a folder."""
    service = Service(folder, side_by_side, places)
    routes = [
        Route("/health", service.health),
        Route("/problems", service.list_problems),
        Route("/problems/{name}/submissions", service.submit, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=service.lifespan)


class Service:
    problems: Mapping[str, Problem]
    grader: Grader

    def __init__(self, folder: Path, side_by_side: int, places: int) -> None:
        self._folder, self._side_by_side, self._places = folder, side_by_side, places

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Open and close the grader with the server; what is in flight has ended when the server stops."""
        self.grader = Grader(side_by_side=self._side_by_side, places=self._places)
        try:
            if await self.grader.readable(self._folder):
                message = f"submissions could read the expected answers in {self._folder}; keep them outside of /usr"
                raise RuntimeError(message)
            self.problems = load(self._folder)
            log.info("%d problems, %d runs side by side", len(self.problems), self._side_by_side)
            yield
        finally:
            await asyncio.to_thread(self.grader.close)

    async def health(self, _request: Request) -> Response:
        grader = self.grader
        state = {"submissions": grader.taken, "places": grader.places, "environments": grader.environments}
        return JSONResponse(state)

    async def list_problems(self, _request: Request) -> Response:
        return JSONResponse({name: problem.describe() for name, problem in self.problems.items()})

    async def submit(self, request: Request) -> Response:
        """Grade the body of a request: source text, or a zip."""
        problem = self.problems.get(request.path_params["name"])
        if problem is None:
            return failure(404, "there is no such problem")
        try:
            async with asyncio.timeout(UPLOAD_S):
                submission = await read_at_most(request, MAX_BYTES)
        except TimeoutError:
            return failure(408, f"the submission took more than {UPLOAD_S:g} s to arrive")
        if submission is None:
            return failure(413, f"a submission has at most {MAX_BYTES} bytes")
        try:
            return JSONResponse(verdicts(await self.grader.grade(problem, submission)))
        except Busy:
            return failure(429, "too many submissions at once; try again", {"Retry-After": "2"})
        except Refused as reason:
            return failure(422, str(reason))


async def read_at_most(request: Request, size: int) -> bytes | None:
    """Return the body of a request, or None as soon as it turns out larger than `size`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > size:
            return None
    return bytes(body)


def verdicts(results: list[Result]) -> dict[str, object]:
    """Return the answer for a graded submission: the first verdict that is not "accepted" speaks for all."""
    overall = next((each.verdict for each in results if each.verdict != Verdict.ACCEPTED), Verdict.ACCEPTED)
    return {"verdict": overall, "cases": [asdict(result) for result in results]}


def failure(status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": why}, status, headers)
