"""The site in a real browser: Chromium, driven by Playwright, with axe-core.

`.ci/run` installs them, and names the file of axe-core in the variable AXE; without one of the three, these
tests are skipped. Screenshots go to the folder in the variable SCREENSHOTS.
"""

import os
import shutil
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("markdown_it")
pytest.importorskip("jinja2")

from tinygen.book.site import Site  # noqa: E402

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
AXE = os.environ.get("AXE", "")
WIDTHS = {360: 740, 768: 1024, 1280: 900}
PAGES = [  # one of each kind, and long ones
    "index.html",
    "chapter-diffusion.html",
    "equations.html",
    "names.html",
    "room-tinygen-diffusion.html",
    "search.html?q=attention",
    "examples.pages.gpt.html",
    "tinygen.nn.attention.html",
    "tinygen.backward.html",
    "tinygen.density.principal.html",
    "docs.pictures.html",
    "docs.gradcheck.html",
    "README.html",
]

pytestmark = pytest.mark.skipif(not (CHROMIUM and AXE), reason="needs chromium, and axe-core's file in AXE")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("book")
    Site(ROOT).write(out)
    return out


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, folder):
    """A function that opens a page of the site. No page may ask for anything elsewhere."""
    contexts, asked = [], []

    def get(name, width=1280, scheme="light", **options):
        size = {"width": width, "height": WIDTHS[width]}
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme, **options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"file://{folder}/{name}")
        return page

    yield get
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith((f"file://{folder}/", "data:"))] == []


def violations(page):
    """What axe-core finds: the rule and the first element of each."""
    page.evaluate(Path(AXE).read_text("utf-8"))
    parts = "{exclude: [['.equations math']]}"  # 183 equations, whose colors take half a minute
    found = page.evaluate(f"axe.run({parts})")["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in found]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(open_page, name):
    for width, scheme in zip(WIDTHS, ("light", "dark", "light"), strict=True):
        page = open_page(name, width, scheme)
        assert violations(page) == [], f"{width} pixels, {scheme}"
        if screenshots := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(screenshots) / f"{name.partition('.html')[0]}-{width}.png")


def test_axe_sees_what_is_planted(open_page):
    page = open_page("index.html")
    page.evaluate("""document.querySelector("main").insertAdjacentHTML("beforeend",
        '<img src="style.css"><p style="color: #aaa; background: #fff">gray</p>')""")
    assert {text.partition(":")[0] for text in violations(page)} == {"image-alt", "color-contrast"}


def test_every_page_fits_a_phone_and_is_there_in_a_second(open_page, folder):
    page = open_page("index.html", 360)
    wide, slow = [], []
    for path in sorted(folder.glob("*.html")):
        for _ in range(3):  # another process may have been in the way
            page.goto(f"file://{path}")
            seconds = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
            if seconds <= 1:
                break
        slow += [f"{path.name}: {seconds:.1f} s"] if seconds > 1 else []
        wide += [path.name] if page.evaluate("document.documentElement.scrollWidth") > 360 else []
    assert wide == []
    assert slow == []


@pytest.mark.parametrize("name", ["tinygen.nn.attention.html", "examples.pages.gpt.html"])
def test_notes_stand_beside_their_code(open_page, name):
    boxes = """[...document.querySelectorAll(".part")].filter((p) => p.children.length == 2).map((part) =>
        [...part.children].map((element) => element.getBoundingClientRect()).map((box) =>
            [box.left, box.top, box.right, box.bottom]))"""
    wide = open_page(name, 1280).evaluate(boxes)
    assert len(wide) > 5
    assert all(
        note[1] == code[1] and note[2] == code[0] for note, code in wide
    )  # side by side, at one height
    assert len({code[0] for _, code in wide}) == 1  # one column
    narrow = open_page(name, 360).evaluate(boxes)
    assert all(note[3] <= code[1] and code[2] <= 360 for note, code in narrow)  # below each other


def test_by_keyboard(open_page):
    page = open_page("tinygen.nn.attention.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] == 0  # it is seen when it has the focus
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main-content"
    page.keyboard.press("Tab")  # to the first link of the content, with an outline
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_search(open_page):
    page = open_page("tinygen.tape.html")
    page.fill("#search-box", "ddim_step")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=ddim_step")
    first = page.locator("#search-results a").first
    assert first.inner_text() == "ddim_step"
    first.click()
    page.wait_for_url("**/tinygen.diffusion.sampling.html#ddim_step")
    assert page.locator("#ddim_step").is_visible()
    page = open_page("search.html?q=reparameterization")  # in texts alone: the second index is loaded
    page.locator("#search-results a", has_text="examples.pages.vae").wait_for()
    page = open_page("search.html?q=nothing_is_called_so")
    assert page.locator("#search-state").inner_text() == "0 places"


def test_the_search_on_a_phone_by_keyboard(open_page):
    page = open_page("tinygen.tape.html", 360)
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "search-box":
            break
    page.keyboard.type("topological_order")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=topological_order")
    assert page.locator("#search-state").get_attribute("role") == "status"  # read aloud
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.focus("#search-box")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "topological_order"
    page.keyboard.press("Enter")
    page.wait_for_url("**/*.html#topological_order")


def test_without_a_script(open_page):
    page = open_page("tinygen.ops.attention.html", java_script_enabled=False)
    assert page.locator("#eq-attention math").first.is_visible()
    assert page.locator("#attention .code").is_visible()
    page.locator("#eq-attention figcaption a").nth(1).click()  # the test that holds it
    assert page.url.rpartition("/")[2].startswith("tests.")
    page = open_page("search.html", java_script_enabled=False)
    assert "needs JavaScript" in page.locator("#search-state").inner_text()


def test_pictures_are_loaded_when_they_are_seen(open_page):
    page = open_page("docs.pictures.html")
    loaded = "[...document.images].filter((image) => image.complete && image.naturalWidth > 0).length"
    before, all_of_them = page.evaluate(loaded), page.evaluate("document.images.length")
    assert before < all_of_them
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("(image) => image.decode()")
    assert page.evaluate(loaded) == all_of_them
