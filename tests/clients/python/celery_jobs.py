"""Tasks with Celery, which speaks to one address and has no cluster mode: celery_jobs.py HOST PORT

All its keys get one tag by its own option `global_keyprefix`, since it waits for several queues in one command.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError

PATIENCE = 60
PLAIN = 100
url = os.environ.get("HOLDFAST_CELERY_URL", "redis://127.0.0.1:6379/0")
transport = {"global_keyprefix": "{celery}"}
app = Celery("celery_jobs", broker=url, backend=url)
app.conf.update(
    broker_transport_options=transport,
    result_backend_transport_options=transport,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    task_track_started=True,
    task_default_queue=os.environ.get("HOLDFAST_CELERY_QUEUE", "celery"),
)


@app.task
def double(number):
    return 2 * number


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3, default_retry_delay=0.1)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task
def hopeless():
    raise ValueError("never")


def same(seen, right, what):
    if seen != right:
        sys.exit(f"{what}: {seen!r}, not {right!r}")


def start(log):
    """A worker with children, in a group of its own, so that all of it can be killed."""
    command = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker"]
    command += ["--concurrency=2", "--loglevel=INFO", f"--hostname=w{time.monotonic_ns()}@test"]
    folder = pathlib.Path(__file__).parent
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)


def end(worker):
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    worker.wait(PATIENCE)


def results():
    waited = [double.delay(number) for number in range(PLAIN)]
    answers = [result.get(timeout=PATIENCE) for result in waited]
    same(answers, [2 * number for number in range(PLAIN)], "results")
    same(double.s(5).apply_async(countdown=0.5).get(timeout=PATIENCE), 10, "a task of later")
    same(flaky.delay().get(timeout=PATIENCE), 2, "a task that is tried again")
    failed = hopeless.delay()
    same(repr(failed.get(timeout=PATIENCE, propagate=False)), "ValueError('never')", "a failure")
    same(failed.state, "FAILURE", "the state of a failure")


def canvas():
    steps = chain(double.s(1), double.s(), double.s())()
    same(steps.get(timeout=PATIENCE), 8, "a chain")
    both = group(double.s(number) for number in range(20))()
    same(both.get(timeout=PATIENCE), [2 * number for number in range(20)], "a group")
    joined = chord((double.s(number) for number in range(20)), total.s())()
    same(joined.get(timeout=PATIENCE), 380, "a chord")


def control():
    # A worker that gets no processor for a while answers a later question.
    answers, until = [], time.monotonic() + PATIENCE
    while not answers and time.monotonic() < until:
        answers = app.control.ping(timeout=2)
    same([list(answer.values()) for answer in answers], [[{"ok": "pong"}]], "who answers a ping")
    revoked = double.s(1).apply_async(countdown=5)
    revoked.revoke()
    try:
        sys.exit(f"a task that was revoked answered {revoked.get(timeout=PATIENCE)!r}")
    except TaskRevokedError:
        pass


def main():
    host, port = sys.argv[1:3]
    os.environ["HOLDFAST_CELERY_URL"] = app.conf.broker_url = f"redis://{host}:{port}/0"
    app.conf.result_backend = app.conf.broker_url
    os.environ["HOLDFAST_CELERY_QUEUE"] = app.conf.task_default_queue = f"queue-{os.getpid()}"
    with tempfile.TemporaryFile("w+") as log:
        worker = start(log)
        try:
            results()
            canvas()
            control()
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-8000:])
            raise
        finally:
            end(worker)
    print("ok", PLAIN)


if __name__ == "__main__":
    main()
