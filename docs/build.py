"""Build the site: the chapters as notebooks that have been run, with their pictures, and the reference.

    python docs/build.py site               all of it, into site/
    python docs/build.py site --only 08     one chapter alone

Needs the extra ``docs``. An error, a warning or anything that a chapter writes to stderr ends it with exit status 1.
"""

import argparse
import inspect
import os
import re
import shutil
import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

Moved = dict[str, str | Callable[[re.Match[str]], str]]
ROOT = Path(__file__).parents[1]
FALSE_ALARMS = ",".join(f"ignore:invalid value encountered in {op}:RuntimeWarning" for op in ("dot", "matmul"))
"""Why they are, tests/false_alarms.py says."""

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
PICTURES = {"image/svg+xml": "drawing", "image/png": "plot", "text/html": "page or table"}
MOVED = {
    r"\]\((\.\./)?examples/README\.md\)": "](chapters/index.html)",
    r"\]\((\.\./)?examples/(\w+)\.py\)": r"](chapters/\2.html)",
    r"\]\((\.\./)?benchmarks/README\.md\)": "](benchmarks/index.html)",
    r"\]\((\.\./)?benchmarks/(\w+)\.md\)": r"](benchmarks/\2.html)",
    r"\]\((\.\./)?(CONTRIBUTING|CHANGELOG)\.md\)": lambda m: f"]({m[2].lower()}.html)",
    r"\]\((docs/)?(\w+)\.md\)": r"](\2.html)",
    r"\]\(docs/page\.png\)": "](page.png)",
}
"""Where a link of the sources leads to on the site, by a pattern of where it leads there."""
SHORT = {
    r"numpy\.ndarray\[tuple\[(typing\.)?Any, \.\.\.\], numpy\.dtype\[[\w.]*\]\]": "Array",
    r"(?<![\w'\"/])(minirnn|collections|typing|numpy|pathlib|os)(\.[a-z_]\w*)*\.(?=[A-Za-z])": "",
    r"~(?=[A-Z])": "",
}
"""What a type in a signature is written as, by a pattern of what it is."""
FITTED = ".jp-RenderedSVG img,.jp-RenderedImage img{max-width:100%;height:auto}"
UNSAID = 'alt="No description has been provided for this image"'
ROOMS = {"minirnn": "index.html", "chapters": "chapters/index.html", "layers": "layers.html"}
ROOMS |= {name: f"{name}.html" for name in ("gradients", "training", "measured", "reading")}
ROOMS |= {"reference": "reference/minirnn.html"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{max-width:56rem;margin:1rem auto;padding:0 1rem;font:1rem/1.5 sans-serif;color:#1f2328;background:#fff}}
pre{{background:#f4f5f7;padding:.8rem;overflow:auto;font-size:.82rem}}code{{font-size:.9em}}pre code{{font-size:1em}}
td,th{{padding:.25rem .6rem;border:1px solid #d0d7de;text-align:left;vertical-align:top}}img{{max-width:100%}}
table{{border-collapse:collapse;font-size:.9rem}}.anchor-link{{display:none}}nav a{{margin-right:1rem}}</style>
</head><body><nav>{links}</nav>{body}</body></html>
"""


def run_chapter(path: Path, out: Path) -> str:
    """Run a chapter as a notebook, write it as .ipynb and .html, and say what it shows."""
    import jupytext
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = KERNEL
    quiet = ["--IPKernelApp.log_level=40"]  # errors alone
    os.environ.setdefault("PYTHONWARNINGS", FALSE_ALARMS)
    with tempfile.TemporaryDirectory() as folder:  # a chapter needs nothing of the checkout
        NotebookClient(notebook, extra_arguments=quiet, timeout=300, resources={"metadata": {"path": folder}}).execute()
    shown = Counter[str]()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise SystemExit(f"{path.name}: a cell wrote to stderr:\n{output.text}")
            shown.update(PICTURES[kind] for kind in PICTURES if kind in output.get("data", {}))
    jupytext.write(notebook, out / f"{path.stem}.ipynb")
    exporter = HTMLExporter(theme="light", mathjax_url="", require_js_url="", mermaid_js_url="")  # nothing is fetched
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    title = re.match(r"# (.*)", notebook.cells[0].source)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title[1] if title else path.stem}})
    page = page.replace("</head>", f"<style>{FITTED}</style></head>", 1).replace(UNSAID, 'alt="a drawing of the layer"')
    (out / f"{path.stem}.html").write_text(page, encoding="utf-8")
    return ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in shown.items()) or "text"


def build_chapters(out: Path, only: str) -> None:
    """Run the chapters whose number begins with ``only``."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "examples").glob(f"{only}*.py")):
        print(f"{path.stem}: {run_chapter(path, out)}", flush=True)


def build_page(source: Path, target: Path, moved: Moved) -> None:
    """Write a page of Markdown as HTML, with the links that point elsewhere there."""
    from nbconvert.filters import markdown2html

    text = source.read_text(encoding="utf-8")
    for here, there in moved.items():
        text = re.sub(here, there, text)
    title, root = re.match(r"# (.*)", text), "../" * (target.parent.name in ("chapters", "benchmarks"))
    links = "".join(f'<a href="{root}{place}">{name}</a>' for name, place in ROOMS.items())
    page = PAGE.format(title=title[1] if title else source.stem, links=links, body=markdown2html(text))
    target.write_text(page, encoding="utf-8")


def build_guide(out: Path) -> None:
    """Write the README as the site's first page, and the pages beside this file."""
    shutil.copy(ROOT / "docs" / "page.png", out)
    for source in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        target = out / ("index.html" if source.name == "README.md" else f"{source.stem}.html")
        build_page(source, target, MOVED)
    build_page(
        ROOT / "examples" / "README.md", out / "chapters" / "index.html", {r"\.py\)": ".html)", r"\.md\)": ".html)"}
    )
    for name in ("CHANGELOG", "CONTRIBUTING"):
        build_page(ROOT / f"{name}.md", out / f"{name.lower()}.html", MOVED)
    (out / "benchmarks").mkdir(exist_ok=True)
    for source in (ROOT / "benchmarks").glob("*.*"):
        if source.suffix == ".svg":
            shutil.copy(source, out / "benchmarks")
        elif source.suffix == ".md":
            target = "index.html" if source.name == "README.md" else f"{source.stem}.html"
            build_page(source, out / "benchmarks" / target, {r"README\.md\)": "index.html)", r"\.md\)": ".html)"})


def build_reference(out: Path) -> None:
    """Write the reference with pdoc."""
    import pdoc
    from pdoc import doc, render

    import minirnn

    for name, example in examples().items():
        thing = attrgetter(name.removeprefix("minirnn."))(minirnn)
        thing.__doc__ = f"{inspect.cleandoc(thing.__doc__)}\n\nExamples\n--------\n{example}"
    for module in [minirnn, *filter(inspect.ismodule, (getattr(minirnn, name) for name in minirnn.__all__))]:
        for name in getattr(module, "__all__", vars(module)):
            describe_members(getattr(module, name))
    doc._remove_collections_abc = readable  # what every annotation goes through
    render.configure(docformat="numpy", show_source=False, include_undocumented=False, footer_text="minirnn")
    pdoc.pdoc("minirnn", output_directory=out)
    pages = [*out.rglob("*.html")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r'(<span class="base">)(.*?)(</span>)', lambda m: m[1] + readable(m[2]) + m[3], text)
        page.write_text(text, encoding="utf-8")
    print(f"reference: {len(pages)} pages")


def describe_members(thing: Any) -> None:
    """Show a class's constructor, whose arguments its own docstring describes, and no field as an "alias"."""
    if inspect.isclass(thing) and thing.__module__.startswith("minirnn"):
        make = vars(thing).get("__init__")
        if make is not None and not make.__doc__:
            make.__doc__ = "See above."
        for name in getattr(thing, "_fields", ()):
            field = vars(thing).get(name)
            if (getattr(field, "__doc__", "") or "").startswith("Alias for field"):
                field.__doc__ = ""


def examples() -> dict[str, str]:
    """Return the examples of those public names whose docstrings have none, by name."""
    text = (ROOT / "docs" / "examples.txt").read_text(encoding="utf-8")
    found = re.findall(r"^(minirnn\.[\w.]+)\n((?:    .*\n)+)", text, re.M)
    return {name: textwrap.dedent(example) for name, example in found}


def readable(annotation: str) -> str:
    """Shorten a type as it stands in a signature: numpy's by the names that one imports, and no module's path."""
    from numpy import typing

    annotation = re.sub(r"(?<!\w)typing\.", "", annotation)
    for alias in ("ArrayLike", "DTypeLike"):
        members = inspect.formatannotation(getattr(typing, alias)).removeprefix("Union[").removesuffix("]")
        annotation = annotation.replace(f"Union[{members}, NoneType]", f"{alias} | None")
        annotation = annotation.replace(f"Union[{members}]", alias)
    for long, short in SHORT.items():
        annotation = re.sub(long, short, annotation)
    return annotation


def main() -> None:
    """Build what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", metavar="NN", help="the chapter whose number begins so, and nothing else")
    arguments = parser.parse_args()
    build_chapters(arguments.out / "chapters", arguments.only)
    if not arguments.only:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            build_reference(arguments.out / "reference")
        build_guide(arguments.out)
        print(f"site: {arguments.out / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
