"""The site is whole: no dead link, no request to another host, readable without a script."""

import ast
import json
import re
import shutil
from html import unescape
from itertools import accumulate
from pathlib import Path
from xml.etree import ElementTree

import pytest
from html_checks import complaints

pytest.importorskip("markdown_it")
pytest.importorskip("jinja2")

import tinygen.book
from tinygen.__main__ import main
from tinygen.book.ablations import RESULTS, TABLES, Broken, ablations
from tinygen.book.equations import index
from tinygen.book.names import no_garbage, read
from tinygen.book.pages import first_sentence, slug_of
from tinygen.book.papers import PUBLISHED, papers
from tinygen.book.search import words_script
from tinygen.book.site import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """(folder, what was counted) of the whole site."""
    out = tmp_path_factory.mktemp("book")
    return out, Site(ROOT).write(out)


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_every_page_keeps_the_rules(site):
    folder, _ = site
    with no_garbage():
        assert complaints(folder) == []


def test_every_file_has_a_page(site):
    folder, counts = site
    files = [path for room in ("tinygen", "tinygen_cuda", "examples") for path in (ROOT / room).rglob("*.py")]
    files += [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]
    names = {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") + ".html" for path in files}
    pages = {path.name for path in folder.glob("*.html")}
    assert names <= pages
    assert len(pages) == counts["pages"]


def test_all_equations_are_set_and_held(site):
    folder, counts = site
    with no_garbage():
        marked = index()
    assert counts["equations"] == len(marked) > 150
    assert counts["set"] == len(marked), "an equation that the converter cannot parse is shown as it stands"
    html = (folder / "equations.html").read_text()
    for markup in re.findall(r"<math .*?</math>", html):
        ElementTree.fromstring(markup.replace("&nbsp;", " "))
    for equation in marked:
        assert f"{equation.file}:" in html
        for test in equation.tests:
            path, _, name = test.partition("::")
            page = path.removesuffix(".py").replace("/", ".") + ".html"
            assert f'href="{page}#{name.replace("::", ".")}"' in html


def test_an_equation_on_its_page(site):
    html = (site[0] / "tinygen.ops.attention.html").read_text()
    figure = html[html.index('<figure class="equation" id="eq-attention"') :]
    figure = figure[: figure.index("</figure>")]
    assert "<msqrt><mi>d</mi></msqrt>" in figure
    assert '<a href="https://arxiv.org/abs/1706.03762">Vaswani et al. 2017</a>, eq. 1' in figure
    assert re.search(r'Held by <a href="tests\.[\w.]+\.html#test_\w+">test_', figure)


def test_all_of_the_source_is_there_line_by_line(site):
    """Each line of a file is in its code or its notes; the line's number is its anchor."""
    html = (site[0] / "tinygen.optim.adam.html").read_text()
    lines = (ROOT / "tinygen" / "optim" / "adam.py").read_text().splitlines()
    words = set(text_of(html).split())
    for number, line in enumerate(lines, 1):
        shown = re.search(rf'<code id="{number}" class="i\d">(.*?)</code>', html)
        if shown:
            plain = re.sub(r"<[^>]+>", "", shown[1])
            assert (
                plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip() == line.strip()
            )
        elif not line.lstrip().startswith(("#", '"""', "Eq.:", "Held by:")):
            prose = re.findall(r"(?<![\w`])[A-Za-z]{4,}(?![\w`])", line)
            assert len([word for word in prose if any(word in w for w in words)]) == len(prose)


def test_names_are_links_to_their_definitions(site):
    html = (site[0] / "tinygen.nn.attention.html").read_text()
    assert '<a href="tinygen.nn.linear.html#Linear">Linear</a>' in html
    assert '<a href="tinygen.ops.attention.html#attention">attention</a>' in html  # ops.attention
    assert '<a href="tinygen.nn.rope.html">' in html  # `rope.py` in a docstring


def test_chapters_have_their_pictures_and_pages(site):
    html = (site[0] / "chapter-diffusion.html").read_text()
    assert html.index("examples.pages.ddpm.html") < html.index("tinygen.diffusion.schedule.html")
    assert html.index("tinygen.diffusion.schedule.html") < html.index("tinygen.diffusion.sampling.html")
    assert '<img src="pictures/diffusion_2d_samples.png" alt="Five panels' in html


def test_a_chapter_begins_with_its_algorithms_on_one_page(site):
    """All notes and all code, before the library; the anchors stay on the page of the file."""
    for name, chapter in [
        ("gpt", "gpt"),
        ("vae", "autoencoders-and-vaes"),
        ("all_reduce", "several-processes"),
    ]:
        page, html = f"examples.pages.{name}.html", (site[0] / f"chapter-{chapter}.html").read_text()
        own = (site[0] / page).read_text()
        lines = re.findall(r'<code id="(\d+)" (class="i\d">.*?</code>)', own)
        assert len(lines) > 40
        for number, line in lines:
            shown = f'<code data-line="{number}" {line}'.replace('href="#', f'href="{page}#')
            assert html.index(shown) < html.index("<h2>The library</h2>")
        notes = re.findall(r'<div class="note">(.*?)</div>\n', own, re.DOTALL)
        assert all(text_of(note).strip() in text_of(html) for note in notes)
        assert 'id="1"' not in html


def test_every_chapter_has_an_exercise(site):
    for path in site[0].glob("chapter-*.html"):
        assert re.search(r"<h2>Exercises</h2>.*?<li><a href=", path.read_text(), re.DOTALL), path.name


def test_a_page_has_its_notebook_and_its_graph(site):
    folder, counts = site
    assert counts["notebooks"] == len(list((ROOT / "examples" / "pages").glob("*.py")))
    assert (
        counts["graphs"] == len(list((folder / "graphs").iterdir())) == counts["notebooks"] - 2
    )  # EM, all-reduce
    assert max(path.stat().st_size for path in (folder / "graphs").iterdir()) <= 200_000
    html = (folder / "chapter-gpt.html").read_text()
    assert '<a href="notebooks/gpt.ipynb" download>' in html
    alt = re.search(r'<img src="graphs/gpt.svg" alt="([^"]+)" loading="lazy">', html)[1]
    assert alt.endswith("functions gpt, block, causal_attention, cross_entropy.")
    opening = json.loads((folder / "notebooks" / "gpt.ipynb").read_text())["cells"][0]["source"]
    assert opening.startswith("# GPT: examples/pages/gpt.py\n\nA Transformer that predicts the next token.")


def test_every_ablation_is_beside_what_it_breaks(site):
    """With its figure of docs/break_it.md, on the page of the file and in the chapter."""
    chapters = unescape("".join(path.read_text() for path in site[0].glob("chapter-*.html")))
    text = (ROOT / "docs" / "break_it.md").read_text()
    found = re.findall(
        r"### ([^\n]+)\n\n`[^`]+`, in `([^`]+)`:.*?\| --- \| --- \| --- \|\n\| (.+?) \| (\S+) .*?\| (\S+) ",
        text,
        re.DOTALL,
    )
    assert len(found) == text.count("\n### ") >= 20
    for title, file, figure, good, bad in found:
        link = f'<a href="docs.break_it.html#{slug_of(title)}">{title}</a>'
        note = f"Break it: {link} ({figure}: {good}; broken: {bad})"
        page = unescape((site[0] / f"{file.removesuffix('.py').replace('/', '.')}.html").read_text())
        assert page.count(note) == 1, note
        assert f"{link}, in <a" in chapters


def test_an_ablation_is_beside_the_function_that_it_breaks(site):
    html = (site[0] / "tinygen.backward.html").read_text()
    section = html[html.index('<section class="part" id="topological_order">') :]
    assert "No topological order</a>" in section[: section.index("</section>")]


def test_an_ablation_must_fit_the_source(tmp_path):
    for path, text in {
        f"{TABLES}/x.py": 'A, B = "a.py", "y = 3"\n'
        'X = (Ablation(name="n", title="t", change=Change(A, B, "")),)\n',
        "a.py": "x = 1\n\ny = 2\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    modules = {path: read(tmp_path, path) for path in ("a.py", f"{TABLES}/x.py")}
    with pytest.raises(ValueError, match=r"x\.py: the text that n replaces is not in a\.py"):
        ablations(tmp_path, modules)
    modules["a.py"].source = "x = 1\n\ny = 3\n"
    (tmp_path / "docs" / "results").mkdir(parents=True)
    results = {"ablations": {"n": {"figures": {"loss": {"good": [1, 2.5], "broken": ["nan", 1]}}}}}
    (tmp_path / RESULTS).write_text(json.dumps(results))
    assert ablations(tmp_path, modules) == [Broken("n", "t", "a.py", 3, "loss", "1.75", "nan")]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "lectures").glob("*.md")), ids=lambda path: path.stem
)
def test_equations_of_the_lectures_are_set(site, path):
    """With a link to the line of the source and to the test."""
    topics = [line for line in path.read_text().splitlines() if line.startswith("- Equation: ")]
    html = (site[0] / f"docs.lectures.{path.stem}.html").read_text()
    shown = re.findall(r"<li>Equation: <div class=\"math\".*?</li>", html, re.DOTALL)
    assert len(shown) == len(topics)
    for item in shown:
        assert re.search(
            r'<math .*<a href="tinygen[\w.]+#eq-[\w.-]*">tinygen/[\w/]+\.py:\d+</a>.*held by <a href="tests',
            item,
            re.DOTALL,
        )


def test_a_room_has_its_files_with_equations_and_minutes(site):
    html = (site[0] / "room-tinygen-diffusion.html").read_text()
    files = list((ROOT / "tinygen" / "diffusion").glob("*.py"))
    assert len(files) > 5
    for path in files:
        page = f"tinygen.diffusion.{path.stem}.html"
        assert f'<a href="{page}"><code>{path.name}</code></a> <span class="meta">' in html
        assert 'href="room-tinygen-diffusion.html"' in (site[0] / page).read_text()
    own = sum(equation.file.startswith("tinygen/diffusion/") for equation in index())
    assert f"{own} equations" in html
    assert html.count('<div class="math"') == own > 10
    front = (site[0] / "index.html").read_text()
    assert all(f'href="{path.name}"' in front for path in site[0].glob("room-*.html"))


def test_the_index_of_words(site):
    """Every page with a word that is in its text alone."""
    text = (site[0] / "search-words.js").read_text()
    pages, steps = json.loads(text.removeprefix("const WORDS = "))
    found = {pages[i] for i in accumulate(map(int, steps["reparameterization"].split(",")))}
    assert {"examples.pages.vae.html", "tinygen.models.pictures.vae.html"} <= found
    assert len(text) < 300_000
    tiny = words_script({"a": "Noise, noise x", "b": "", "c": "noise"})
    assert tiny == 'const WORDS = [["a","b","c"],{"noise":"0,2"}]\n'


def test_words_in_lists_are_whole_sentences_with_their_code(site):
    html = (site[0] / "index.html").read_text()
    assert "What <code>a + b</code> and <code>x.sum()</code> are" in html
    for path in [site[0] / "index.html", *site[0].glob("chapter-*.html")]:
        assert "`" not in re.sub(r"<code\b.*?</code>", "", path.read_text())


@pytest.mark.parametrize(
    ("doc", "sentence"),
    [
        ("A sum. It is fast.", "A sum."),
        ("Two flags:\n\n    --a", "Two flags."),
        ("How many bits? The bound is the sum of\n\n    a + b\n\nand more.", "How many bits?"),
        ("x (B, T) -> (B, T) with\n\n    T = 3", "x (B, T) -> (B, T) with …"),
        ("", ""),
    ],
)
def test_the_first_sentence_is_whole(doc, sentence):
    assert first_sentence(ast.parse(f'"""{doc}"""')) == sentence


def test_every_picture_is_in_its_chapter(site):
    """In that of the example that made it; those of no example are in a guide."""
    chapters, guides = (
        "".join(p.read_text() for p in site[0].glob(f"{n}*.html")) for n in ("chapter-", "docs.")
    )
    stems = tuple(f"{path.stem}_" for path in (ROOT / "examples").rglob("*.py"))
    for picture in (ROOT / "docs" / "pictures").iterdir():
        where = chapters if picture.name.startswith(stems) else guides
        assert f'src="pictures/{picture.name}"' in where, (
            f"no words for {picture.name} in docs/*.md or README"
        )


def test_public_names_have_their_line(site):
    html = (site[0] / "names.html").read_text()
    assert "<dd></dd>" not in html
    assert "tinygen.kernels.NORMAL" not in html  # imported, and not in `__all__`
    for name, about in [
        ("tinygen.Tensor", "An array"),
        ("tinygen.nn.Linear", "x"),
        ("tinygen.models.GPT", "A"),
    ]:
        line = re.search(rf'<dt><a href="[^"]+">{re.escape(name)}</a></dt><dd>(.*?)</dd>', html)
        assert line, name
        assert line[1].startswith(about) or line[1], name


def test_the_index_of_the_search_leads_to_places(site):
    text = (site[0] / "search-index.js").read_text()
    entries = json.loads(text.removeprefix("const ENTRIES = "))
    assert "MultiHeadAttention" in [title for title, *_ in entries["tinygen.nn.attention.html"]]
    assert entries["chapter-diffusion.html"][0][0] == "Diffusion"
    for page, rows in entries.items():
        html = (site[0] / page).read_text()
        anchors = [anchor[0] if anchor else title for title, _, *anchor in rows]
        assert all(not anchor or f'id="{anchor}"' in html for anchor in anchors)


def test_links_from_guides_to_places_in_files(tmp_path):
    """By the name of a definition, or by a line, as on GitHub. A false one stays, and is a dead anchor."""
    for path in ("docs/pictures", "tinygen", "examples/pages"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "tinygen" / "x.py").write_text(
        '"""A file."""\n\nA = 1\n\n\ndef f():\n    """A function."""\n    return A\n'
    )
    names = ("f", "A", "L7", "L8", "g")
    links = " ".join(f"[{name}](../tinygen/x.py#{name})" for name in names)
    (tmp_path / "docs" / "guide.md").write_text(
        f"# Guide\n\n{links} [no page](../docs/pictures) [nothing](no.md)\n"
    )
    (tmp_path / "README.md").write_text("# tinygen\n\n## A\n")
    (tmp_path / "ARCHITECTURE.md").write_text("# The house\n")
    html = Site(tmp_path).guide_page("docs/guide.md").content["html"]
    found = dict(re.findall(r'<a href="([^"]*)">(\w+)</a>', html))
    assert list(found) == [f"tinygen.x.html#{anchor}" for anchor in ("f", "3", "6", "8", "g")] + ["no.md"]
    assert "no page" in html


def test_papers_with_two_numbers_are_left_alone():
    def found(*texts):
        return {name: number for name, number in papers(list(texts)).items() if name not in PUBLISHED}

    one = "Ho et al. 2020, arXiv:2006.11239; Song & Ermon 2019, *Score*, arXiv:1907.05600"
    assert found(one) == {"Ho et al. 2020": "2006.11239", "Song & Ermon 2019": "1907.05600"}
    assert found("Ho, Jain & Abbeel 2020, arXiv:2006.11239")["Ho et al. 2020"] == "2006.11239"
    book = "Griewank & Walther 2008, ch. 12; for neural nets Chen et al. 2016, arXiv:1604.06174"
    assert found(book) == {"Chen et al. 2016": "1604.06174"}  # the number is that of the last
    assert found(one, "Ho et al. 2020, arXiv:1234.56789") == {"Song & Ermon 2019": "1907.05600"}


def test_anchors_of_headings_are_githubs():
    assert slug_of("How a run ends") == "how-a-run-ends"
    assert slug_of("`gradcheck`, in 3 steps") == "gradcheck-in-3-steps"


# -- the command ---------------------------------------------------------------------------------------


def test_without_the_sources_it_says_where_it_works(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tinygen.book, "ROOT", tmp_path)
    assert main(["book"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "checkout" in said


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "tinygen.book.site", None)
    assert main(["book"]) == 2
    assert '.[book]"' in capsys.readouterr().err


# -- the check sees what is planted --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('href="names.html"', 'href="nams.html"', "dead link 'nams.html'"),
        ('href="#main-content"', 'href="#main-contents"', "dead anchor '#main-contents'"),
        ('href="style.css"', 'href="https://example.org/style.css"', "<link> asks another host"),
        ("</head>", '<script src="//example.org/x.js"></script></head>', "<script> asks another host"),
        ("</main>", '<img src="x.png" alt="A plot" loading="lazy"></main>', "<img> needs 'x.png'"),
        ("</main>", '<img src="style.css" alt="" loading="lazy"></main>', "a picture without words"),
        ("</main>", '<img src="style.css" alt="A plot"></main>', "a picture without words or loading=lazy"),
        ("</main>", "<p id='x'><b>x</p></main>", "<p> is not closed"),
        ("</main>", '<a href="names.html"><a href="names.html">x</a></a></main>', "a link in a link"),
        ("</main>", '<p id="main-content"></p></main>', "the anchor 'main-content' twice"),
        ("</main>", f"{'word ' * 60_000}</main>", "bytes with style and scripts"),
        ("</main>", "<h1>x</h1></main>", "2 headings h1"),
        ("</main>", "<h2>x</h2><h4>x</h4></main>", "h4 follows h2"),
        ("<footer>", "<div>", "no <footer>"),
        (' lang="en"', "", "no language"),
        ('class="skip"', "", "does not skip"),
    ],
)
def test_a_planted_fault(site, tmp_path, old, new, complaint):
    for name in ("style.css", "search.js", "search-index.js"):
        shutil.copy(site[0] / name, tmp_path / name)
    html = (site[0] / "index.html").read_text()
    start, end = html.index('<main id="main-content"'), html.index("</main>")
    html = html[:start] + '<main id="main-content"><h1>x</h1>' + html[end:]
    html = re.sub(r"index.html#\w+", "index.html", html)
    for name in ("index", "equations", "names", "search"):
        (tmp_path / f"{name}.html").write_text(html)
    assert complaints(tmp_path) == []
    assert old in html
    (tmp_path / "index.html").write_text(html.replace(old, new, 1))
    assert any(complaint in line for line in complaints(tmp_path))


def test_a_style_that_loads_something(tmp_path):
    (tmp_path / "style.css").write_text("body { background: url(https://example.org/x.png) }")
    assert complaints(tmp_path) == ["a style loads something: url(https://example.org/x.png)"]
