"""What the shell remembers beside the index: progress, refusals, warnings and who is interested in what."""

from lorafinetune.contract.outcome import Progress
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.interest import Interest
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.refusals import TRIED_AGAIN_AFTER, Refused, RefusedJobs
from lorafinetune.shell.warnings import KEPT_PER_JOB, KEPT_SECONDS, Warnings
from unit.shell_objects import job, pod, warning
from unit.test_shell_queue import Clock

JOB = ("team-a", "job")


def progress(done: int) -> Progress:
    return Progress(stage="train", done=done)


def test_the_first_progress_is_shown_at_once_and_the_next_after_five_seconds() -> None:
    clock = Clock()
    memory = ProgressMemory(clock)
    assert memory.accept(JOB, progress(1)) == 0
    assert memory.shown(JOB) == progress(1)
    clock.now += 2
    assert memory.accept(JOB, progress(2)) == 3
    assert memory.shown(JOB) == progress(1)
    assert memory.pending(JOB) == 3
    clock.now += 3
    assert memory.shown(JOB) == progress(2)
    assert memory.pending(JOB) is None


def test_a_long_run_shows_its_progress_less_often() -> None:
    clock = Clock()
    memory = ProgressMemory(clock)
    memory.accept(JOB, progress(1))
    clock.now += 50_000
    memory.accept(JOB, progress(2))
    memory.shown(JOB)
    assert memory.accept(JOB, progress(3)) == 1000


def test_progress_is_forgotten_with_its_job() -> None:
    memory = ProgressMemory(Clock())
    memory.accept(JOB, progress(1))
    assert memory.ages() == {JOB: 0}
    memory.forget(JOB)
    assert memory.shown(JOB) is None
    assert memory.ages() == {}


def test_a_refusal_holds_for_a_while_in_its_namespace() -> None:
    clock = Clock()
    refusals = RefusedJobs(clock)
    refusals.add(JOB, "exceeded quota")
    refusals.add(("team-a", "other"), None)
    refusals.add(("team-b", "job"), None)
    names = ("job", "other", "third")
    assert refusals.of("team-a", names) == Refused(frozenset({"other"}), {"job": "exceeded quota"})
    assert refusals.of("team-b", names) == Refused(frozenset({"job"}), {})
    clock.now += TRIED_AGAIN_AFTER
    assert refusals.of("team-a", names) == Refused(frozenset(), {})


def heard_of() -> tuple[Warnings, Clock, list[Key]]:
    index, clock, heard = Index(), Clock(), list[Key]()
    index.jobs.put(job())
    index.pods.put(pod("job-abcde"))
    return Warnings(index, clock, heard.append), clock, heard


def test_warnings_about_our_jobs_and_their_pods_are_kept_for_minutes() -> None:
    warnings, clock, heard = heard_of()
    warnings.take(warning())
    warnings.take(warning(kind="Pod", name="job-abcde"))
    warnings.take(warning(kind="Pod", name="job-fghij"))
    warnings.take(warning(kind="Workload", name="job-job-0a1b2"))
    warnings.take(warning(name="foreign"))
    warnings.take(warning(kind="Workload", name="job-foreign-0a1b2"))
    kept = [w["involvedObject"]["name"] for w in warnings.of(*JOB)]
    assert kept == ["job", "job-abcde", "job-fghij", "job-job-0a1b2"]
    assert heard == [JOB] * 4
    clock.now += KEPT_SECONDS
    assert warnings.of(*JOB) == []


def test_a_repeated_warning_wakes_nobody() -> None:
    warnings, _, heard = heard_of()
    for _ in range(5):
        warnings.take(warning())
    assert len(warnings.of(*JOB)) == 1
    assert heard == [JOB]
    warnings.take(warning(message="something else"))
    assert heard == [JOB, JOB]


def test_of_many_warnings_the_newest_few_are_kept() -> None:
    warnings, _, _ = heard_of()
    for number in range(50):
        warnings.take(warning(reason=f"Reason{number}"))
    assert [w["reason"] for w in warnings.of(*JOB)] == [f"Reason{n}" for n in range(50 - KEPT_PER_JOB, 50)]


def test_whoever_may_want_a_job_is_interested_until_it_says_otherwise() -> None:
    interest, a, b = Interest(), ("team-a", "a"), ("team-a", "b")
    interest.set(a, frozenset({"job", "x"}))
    interest.set(b, frozenset({"job"}))
    assert interest.of(JOB) == {a, b}
    assert interest.of(("team-b", "job")) == frozenset()
    interest.set(a, frozenset({"x"}))
    interest.forget(b)
    assert interest.of(JOB) == frozenset()
