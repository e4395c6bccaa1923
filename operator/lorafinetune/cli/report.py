"""`lorafinetune report`: from the name of a run to the file of its page."""

import shlex
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from lorafinetune.api.reasons import Reason
from lorafinetune.cli.connection import Access
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.lookup import is_file, run_named
from lorafinetune.cli.options import STORE
from lorafinetune.cli.output import Format, emit, output, structured
from lorafinetune.cli.runs import NO_STATUS
from lorafinetune.cli.store import StoreLocation, open_store_of
from lorafinetune.contract.outcome import StageError
from lorafinetune.report.language import Language
from lorafinetune.report.loading import Origin
from lorafinetune.report.page import BEGINNING, render
from lorafinetune.report.sources import Run
from lorafinetune_stages.report_sources import gather


@dataclass(frozen=True)
class Written:
    """The page of a run, as it is in a file now."""

    namespace: str
    run: str
    language: Language
    file: Path
    sha256: str


def report(name: str, to: Path | None, language: Language, access: Access, where: StoreLocation) -> Written:
    """Writes the page. Raises CommandError and StageError.

    to: NAME.html in the current directory where it is None.
    """
    resource = run_named(name, access)
    if resource.status is None:
        told = f"{resource.metadata.name} has no status, so nothing is known of it"
        raise StageError(Reason.CONFIG_INVALID, told, NO_STATUS)
    sources = gather(Run.of(resource), open_store_of(resource, where))
    page = render(sources, language, _origin(name, where))
    target = to or Path(f"{resource.metadata.name}.html")
    try:
        _replace(target, page)
    except OSError as problem:
        told = (problem.strerror or "can't be written").lower()
        raise CommandError(f"ConfigInvalid: {target}: {told}. Give another file with --to.") from None
    named = resource.metadata
    return Written(named.namespace, named.name, language, target, sha256(page.encode()).hexdigest())


def tell(written: Written, form: Format) -> None:
    """Says where the page is."""
    if form.is_data:
        plain = {"language": written.language.value, "file": str(written.file)}
        emit(structured(asdict(written) | plain, form))
    else:
        output.print(str(written.file))


def _origin(name: str, where: StoreLocation) -> Origin:
    """What came through a pipe is asked for anew."""
    file = name if is_file(name) and name != "-" else ""
    if where.directory is None:
        return Origin(file)
    return Origin(file, "" if where.directory == STORE else f"--store {shlex.quote(str(where.directory))}")


def _replace(target: Path, page: str) -> None:
    """The page is there whole, or as it was before. Only a page of ours is replaced."""
    if target.exists() and not _is_ours(target):
        message = f"ConfigInvalid: {target} exists already, and is no report. Give another file with --to."
        raise CommandError(message)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _is_ours(target: Path) -> bool:
    with target.open("rb") as file:
        return file.read(len(BEGINNING)) == BEGINNING.encode()
