"""The command line: which verbs and flags there are. What a verb does stands in serving/commands/."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from serving.commands.shell import Shell

GLOBAL_WITH_VALUE = ("--data-dir", "--model-url", "--model", "--set", "--tenant")
GLOBAL_SWITCHES = ("--debug",)

app = typer.Typer(
    name="parley",
    help="Parley answers questions about your documents, with citations. All data stays in one folder.",
    epilog="--data-dir, --model-url, --model, --set, --tenant and --debug may stand before or after the command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
documents = typer.Typer(name="documents", help="List, show and remove documents.", no_args_is_help=True)
app.add_typer(documents)
keys = typer.Typer(name="keys", help="Make, list and revoke the access keys of the HTTP API.", no_args_is_help=True)
app.add_typer(keys)
jobs = typer.Typer(name="jobs", help="List, show, start, retry and cancel background jobs.", no_args_is_help=True)
app.add_typer(jobs)
threads = typer.Typer(name="threads", help="List, show, export and delete conversations.", no_args_is_help=True)
app.add_typer(threads)


@dataclass(slots=True)
class _Given:
    """What the flags before the command said."""

    settings: dict[str, str] = field(default_factory=dict[str, str])
    tenant: str = ""
    """"" when none was named."""
    debug: bool = False


Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
ThreadId = Annotated[str, typer.Argument(metavar="ID", help="Id of the conversation.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Its id.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB...", help="Their ids.")]
DocumentName = Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id or its path.")]


@app.callback()
def parley(
    ctx: typer.Context,
    data_dir: Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder that holds all data.")] = None,
    model_url: Annotated[str | None, typer.Option(metavar="URL", help="OpenAI-compatible model server.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model's name there.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting.")] = None,
    tenant: Annotated[str, typer.Option(metavar="T", help="Whose data to work on; none: local.")] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a bug.")] = False,
) -> None:
    """Takes what holds for every command."""
    flags: dict[str, str] = {}
    for item in set_ or []:
        name, sign, value = item.partition("=")
        if not sign:
            raise typer.BadParameter(f"{item!r} is not NAME=VALUE", param_hint="--set")
        flags[name.strip().lower().replace("-", "_")] = value
    named = {"data_dir": data_dir, "model_url": model_url, "model": model}
    flags.update({name: value for name, value in named.items() if value is not None})
    ctx.obj = _Given(flags, tenant, debug)


@app.command()
def ingest(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders and globs.")],
    json: Json = False,
) -> None:
    """Take documents in. What has not changed is left alone; what has gone from a named folder is removed."""
    from serving.commands.ingest import ingest as verb

    _finish(ctx, json, lambda shell: verb(shell, paths))


@app.command()
def ask(
    ctx: typer.Context,
    question: Annotated[str | None, typer.Argument(help="The question, in quotes.")] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="One question a line (- is stdin); JSON Lines out.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask one question."""
    if (question is None) == (file is None):
        raise typer.BadParameter("give either a question or --file FILE")
    from serving.commands.ask import ask as verb
    from serving.commands.ask import ask_file

    _finish(ctx, json, lambda shell: ask_file(shell, file) if file is not None else verb(shell, question or ""))


@app.command()
def chat(
    ctx: typer.Context,
    thread: Annotated[str, typer.Option(metavar="ID", help="Go on with this conversation.")] = "",
) -> None:
    """Talk with your documents."""
    from serving.commands.chat import chat as verb

    _finish(ctx, False, lambda shell: verb(shell, thread))


@app.command()
def search(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for, in quotes.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many passages.")] = 10,
    json: Json = False,
) -> None:
    """Find passages, with the parts of each score."""
    from serving.commands.search import search as verb

    _finish(ctx, json, lambda shell: verb(shell, query, limit))


@documents.command("list")
def documents_list(ctx: typer.Context, json: Json = False) -> None:
    """List all documents."""
    from serving.commands.documents import list_documents

    _finish(ctx, json, list_documents)


@documents.command("show")
def documents_show(ctx: typer.Context, document: DocumentName, json: Json = False) -> None:
    """Show one document and its passages."""
    from serving.commands.documents import show_document

    _finish(ctx, json, lambda shell: show_document(shell, document))


@documents.command("remove")
def documents_remove(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="Ids or paths.")],
    json: Json = False,
) -> None:
    """Remove documents, with all that came from them. The files themselves stay."""
    from serving.commands.documents import remove_documents

    _finish(ctx, json, lambda shell: remove_documents(shell, names))


@threads.command("list")
def threads_list(
    ctx: typer.Context,
    query: Annotated[str, typer.Option("--search", metavar="WORDS", help="Only those that say all of these.")] = "",
    json: Json = False,
) -> None:
    """List conversations, last changed first."""
    from serving.commands.threads import list_threads

    _finish(ctx, json, lambda shell: list_threads(shell, query))


@threads.command("show")
def threads_show(ctx: typer.Context, thread: ThreadId, json: Json = False) -> None:
    """Show a conversation with its sources."""
    from serving.commands.threads import export_thread

    _finish(ctx, json, lambda shell: export_thread(shell, thread, "markdown"))


@threads.command("export")
def threads_export(
    ctx: typer.Context,
    thread: ThreadId,
    format: Annotated[Literal["json", "markdown"], typer.Option(help="What to write to stdout.")] = "json",
    json: Json = False,
) -> None:
    """Write a conversation to stdout: JSON for programs, Markdown for people."""
    from serving.commands.threads import export_thread

    _finish(ctx, json, lambda shell: export_thread(shell, thread, format))


@threads.command("delete")
def threads_delete(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the conversations.")],
    json: Json = False,
) -> None:
    """Delete conversations, with all that came from them."""
    from serving.commands.threads import delete_threads

    _finish(ctx, json, lambda shell: delete_threads(shell, ids))


@jobs.command("list")
def jobs_list(ctx: typer.Context, json: Json = False) -> None:
    """List all jobs, newest first."""
    from serving.commands.jobs import list_jobs

    _finish(ctx, json, list_jobs)


@jobs.command("show")
def jobs_show(ctx: typer.Context, job: JobId, json: Json = False) -> None:
    """Show one job and its parts."""
    from serving.commands.jobs import show_job

    _finish(ctx, json, lambda shell: show_job(shell, job))


@jobs.command("start")
def jobs_start(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="reembed or retention.")],
    json: Json = False,
) -> None:
    """Start a job: read every document again (reembed), or remove what has grown old (retention)."""
    from serving.commands.jobs import start_job

    _finish(ctx, json, lambda shell: start_job(shell, kind))


@jobs.command("retry")
def jobs_retry(ctx: typer.Context, ids: JobIds, json: Json = False) -> None:
    """Do again what failed or was cancelled. What is done stays done."""
    from serving.commands.jobs import retry_jobs

    _finish(ctx, json, lambda shell: retry_jobs(shell, ids))


@jobs.command("cancel")
def jobs_cancel(ctx: typer.Context, ids: JobIds, json: Json = False) -> None:
    """Cancel what has not begun. What is done stays."""
    from serving.commands.jobs import cancel_jobs

    _finish(ctx, json, lambda shell: cancel_jobs(shell, ids))


@keys.command("create")
def keys_create(
    ctx: typer.Context,
    user: Annotated[str, typer.Option(metavar="U", help="Who the key speaks for.")],
    role: Annotated[str, typer.Option(metavar="user|admin", help="What they may do: docs/access.md.")] = "user",
    expires: Annotated[str, typer.Option(metavar="30d|DAY", help="When the key ends; none: never.")] = "",
    json: Json = False,
) -> None:
    """Make a key for a user of the tenant that --tenant T names, and show it this once."""
    from serving.commands.keys import create

    _finish(ctx, json, lambda shell: create(shell, user, role, expires))


@keys.command("list")
def keys_list(ctx: typer.Context, json: Json = False) -> None:
    """List all keys, or with --tenant T that tenant's."""
    from serving.commands.keys import show

    _finish(ctx, json, show)


@keys.command("revoke")
def keys_revoke(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="As the list shows it.")],
    json: Json = False,
) -> None:
    """End a key, for good and at once."""
    from serving.commands.keys import revoke

    _finish(ctx, json, lambda shell: revoke(shell, id))


@app.command()
def migrate(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Option("--from", metavar="sqlite:PATH", help="Data folder to copy; none: make the tables only.")
    ] = "",
    to: Annotated[
        str, typer.Option(metavar="URL", help="Postgres, as the tables' owner; none: PARLEY_DATABASE_OWNER_URL.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a copy that was broken off.")] = False,
    json: Json = False,
) -> None:
    """Make or upgrade the tables on Postgres, and bring conversations, runs, keys and jobs of a data folder there."""
    from serving.commands.migrate import migrate as verb

    _finish(ctx, json, lambda shell: verb(shell, source, to, resume))


@app.command()
def doctor(ctx: typer.Context, json: Json = False) -> None:
    """Check every setting and every backend, and say what is wrong."""
    from serving.doctor import doctor as verb

    _finish(ctx, json, verb)


@app.command()
def settings(ctx: typer.Context, json: Json = False) -> None:
    """List every setting: meaning, value, and where it came from."""
    from serving.commands.settings import show_settings

    _finish(ctx, json, show_settings)


@app.command()
def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = None,
    port: Annotated[str | None, typer.Option(metavar="PORT", help="Port to listen on.")] = None,
    ingest: Annotated[list[str] | None, typer.Option(metavar="PATH", help="Take this in first.")] = None,
) -> None:
    """Serve the OpenAI-compatible API."""
    from serving.commands.serve import serve as verb

    named = {"host": host, "port": port}
    flags = {name: value for name, value in named.items() if value is not None}
    _finish(ctx, False, lambda shell: verb(shell, ingest or []), flags)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and leaves with its status: 0 done, 1 failed, 2 wrong use, 130 Ctrl-C."""
    # before numpy is imported: one search runs in one thread, BLAS threads of its own only make it slower
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)  # what is typed, and paths, may hold any byte
    app(args=_hoisted(list(sys.argv[1:] if argv is None else argv)), prog_name="parley")
    sys.exit(0)


def _finish(
    ctx: typer.Context, json: bool, verb: Callable[[Shell], int], flags: dict[str, str] | None = None
) -> NoReturn:
    """Runs a verb; says in one line what went wrong."""
    from serving.commands.shell import FAILED, WRONG_USE, CommandFailed, Shell, say
    from serving.settings import SettingsError

    given = ctx.find_object(_Given) or _Given()
    shell = Shell({**given.settings, **(flags or {})}, json, given.tenant)
    try:
        status = verb(shell)
    except SettingsError as error:
        say(str(error))
        status = WRONG_USE
    except CommandFailed as error:
        say(str(error))
        status = FAILED
    except BrokenPipeError:
        raise  # the reader of our output went away; Typer ends quietly
    except Exception as error:  # the outermost frame: a bug is one line here and a traceback in the log
        if given.debug:
            raise
        status = _bug(shell, error)
    raise typer.Exit(status)


def _bug(shell: Shell, error: Exception) -> int:
    from serving.commands.shell import FAILED, log_bug, say

    where = log_bug(shell, error)
    log = f"the log has more: {where}" if where else "--debug shows more"
    say(f"this is a bug in Parley: {type(error).__name__}: {error}; {log}")
    return FAILED


def _hoisted(arguments: list[str]) -> list[str]:
    """Global flags first, wherever they stood; what follows "--" is left as it is."""
    first: list[str] = []
    rest: list[str] = []
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = iter(arguments[:end])
    for word in words:
        if word in GLOBAL_SWITCHES or word.startswith(tuple(f"{flag}=" for flag in GLOBAL_WITH_VALUE)):
            first.append(word)
        elif word in GLOBAL_WITH_VALUE:
            first.extend((word, *(value for value in (next(words, None),) if value is not None)))
        else:
            rest.append(word)
    return first + rest + arguments[end:]


if __name__ == "__main__":
    sys.argv[0] = str(Path(sys.argv[0]).with_name("parley"))
    main()
