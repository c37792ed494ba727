"""`receiver docs`: the manual in a terminal."""

import click
import msgspec

from receiver import manual
from receiver.cli.markdown import render
from receiver.cli.output import print_document
from receiver.cli.tables import print_lines
from receiver.cli.terminal import columns


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def docs(*, name: str | None, as_json: bool) -> None:
    """List the chapters of the manual, or show the one that is called NAME.

    A terminal gets it fitted to its width and page by page; everything else gets the Markdown as it is.
    """
    chapters = manual.chapters()
    if name is None and as_json:
        listed = [msgspec.structs.asdict(chapter) for chapter in chapters.values()]
        rows = [{key: value for key, value in row.items() if key != "text"} for row in listed]
        print_document(msgspec.json.encode({"chapters": rows}))
    elif name is None:
        print_lines([(name, chapter.purpose) for name, chapter in chapters.items()])
    elif name not in chapters:
        raise click.BadParameter(f"unknown chapter; known: {', '.join(chapters)}", param_hint="NAME")
    elif as_json:
        print_document(msgspec.json.encode(chapters[name]))
    elif width := columns():
        click.echo_via_pager("".join(f"{line}\n" for line in render(chapters[name].text, width)))
    else:
        click.echo(chapters[name].text, nl=False)
