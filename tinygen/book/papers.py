"""Papers by authors and year, as the docstrings name them, and their numbers on arXiv."""

from __future__ import annotations

import re
from collections import defaultdict

AUTHORS = r"[A-Z][\w'’-]+(?:(?:, [A-Z][\w'’-]+)* & [A-Z][\w'’-]+| et al\.)? (?:19|20)\d\d[a-d]?"
ARXIV = r"arXiv:(\d{4}\.\d{4,5})"

PUBLISHED = {  # by the year of publication, where the source gives no number, or that of the preprint
    "Cho et al. 2014": "1406.1078",
    "Dinh et al. 2017": "1605.08803",
    "Ghazvininejad et al. 2019": "1904.09324",
    "He et al. 2015": "1502.01852",
    "Hoffmann et al. 2022": "2203.15556",
    "Kingma & Welling 2014": "1312.6114",
    "Kudo 2018": "1804.10959",
    "Loshchilov & Hutter 2017": "1608.03983",
    "Mikolov et al. 2013b": "1310.4546",
    "Miyato et al. 2018": "1802.05957",
    "Schulman et al. 2016": "1506.02438",
    "Tarvainen & Valpola 2017": "1703.01780",
    "Wu et al. 2016": "1609.08144",
}


def papers(texts: list[str]) -> dict[str, str]:
    """From "Ho et al. 2020" to its number on arXiv, wherever a text gives both and all texts
    agree."""
    found: dict[str, set[str]] = defaultdict(set, {name: {number} for name, number in PUBLISHED.items()})
    for authors, number in re.findall(
        rf"({AUTHORS})(?:, \*?[^,;()*]{{1,40}}\*?)?,?\s+{ARXIV}", "\n".join(texts)
    ):
        found[authors].add(number)
        found[re.sub(r", .*&.* ", " et al. ", authors)].add(number)  # "Ho, Jain & Abbeel 2020"
    return {authors: min(numbers) for authors, numbers in found.items() if len(numbers) == 1}
