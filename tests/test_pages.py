"""Pages from templates: escaped, complete, alike."""

import pytest
from jinja2 import UndefinedError

from convgate.pages import page_template


@pytest.fixture
def page(tmp_path):
    def made(text):
        (tmp_path / "page.html.j2").write_text(text)
        return page_template(tmp_path / "page.html.j2")

    return made


def test_a_page_has_the_style_of_all_and_its_own(page):
    style, content = "{% block style %}b { top: 0 }{% endblock %}", "{% block content %}<p>{{ x }}{% endblock %}"
    html = page('{% extends "base.html.j2" %}' + style + content).render(title="<b>", x="1 < 2")
    assert "<title>&lt;b&gt;</title>" in html
    assert "prefers-color-scheme: dark" in html
    assert html.index("b { top: 0 }") < html.index("</style>") < html.index("<p>1 &lt; 2")
    assert html.endswith("</main>\n</body>\n</html>")


def test_a_name_that_is_not_given_is_an_error(page):
    with pytest.raises(UndefinedError, match="'x' is undefined"):
        page("{{ x }}").render()


def test_filters(page):
    assert page("{{ 0.1234 | percent }} {{ 0.5 | percent(0) }}").render() == "12.3% 50%"
    assert page("{{ '<svg/>' | svg_uri }}").render() == "data:image/svg+xml;base64,PHN2Zy8+"
