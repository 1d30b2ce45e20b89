"""Texts of web pages, cheap to make: stretches of a pool of HTML, CSS and JavaScript that is written once.

No fragment of the pool is like another, so pages compress somewhat less than real ones: by pglz html 2.6 times instead
of 3.6, at about the same speed.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from random import Random

from rollout.sample_data.names import CITIES, firm
from rollout.sample_data.stream import NULL, escaped, mix

SMALLEST, LARGEST = 500, 1_000_000
"""The bounds of ``page_bytes``."""

_TERMS = (
    "build launch team product design customer market story growth local secure payment data cloud service partner "
    "合同 律师 催收 案件 咨询 方案 智能 页面 团队 客户 增长 支付 数据 服务 伙伴 品牌 故事 案例 价格 联系"
)
_WORDS = tuple(_TERMS.split())


class _Pool:
    """Fragments of one language, as one text for COPY; cut only where a fragment begins."""

    def __init__(self, fragments: list[str]) -> None:
        prepared = [escaped(fragment) for fragment in fragments]
        self._text = "".join(prepared)
        self._starts = [0, *accumulate(map(len, prepared))]
        self._bytes = [0, *accumulate(len(fragment.encode()) for fragment in fragments)]

    def stretch(self, number: int, size: int) -> tuple[str, int]:
        """Return a stretch of at most ``size`` bytes, chosen by ``number``, for COPY; and its bytes in the database."""
        last = bisect_right(self._bytes, self._bytes[-1] - size) - 1
        first = number % (last + 1)
        end = bisect_right(self._bytes, self._bytes[first] + size) - 1
        return self._text[self._starts[first] : self._starts[end]], self._bytes[end] - self._bytes[first]


def _html(random: Random) -> str:
    """Write a fragment of HTML."""
    words = " ".join(random.choices(_WORDS, k=random.randint(4, 14)))
    return (
        f'<section id="s{random.getrandbits(28):x}" class="{random.choice(_WORDS)}-{random.randint(1, 99)}">\n'
        f'\t<h2 style="margin:{random.randint(0, 64)}px">{firm(random.getrandbits(20))}</h2>\n\t<p>{words}</p>\n'
        f'\t<img src="/a/{random.getrandbits(80):x}.webp" alt="{random.choice(CITIES)}">\n</section>\n'
    )


def _css(random: Random) -> str:
    """Write a fragment of CSS."""
    return (
        f".c{random.getrandbits(28):x} > .{random.choice(_WORDS)} {{\n  color: #{random.getrandbits(24):06x};\n"
        f"  padding: {random.randint(0, 40)}px {random.random():.2f}rem;\n"
        f'  background: url("/b/{random.getrandbits(64):x}.png");\n}}\n'
    )


def _script(random: Random) -> str:
    r"""Write a fragment of JavaScript; its \n and \d are two characters each."""
    return (
        f"const v{random.getrandbits(32):x} = document.querySelector('#s{random.getrandbits(28):x}');\n"
        f"if (/^\\d{{{random.randint(2, 9)}}}$/.test('{random.choice(_WORDS)}\\n')) {{ "
        f"track({random.random():.6f}, '{random.getrandbits(48):x}'); }}\n"
    )


class Pages:
    """The texts of a source database's pages, between ``smallest`` and ``largest`` bytes each."""

    def __init__(self, seed: int, smallest: int, largest: int) -> None:
        """Write the pools (0.1 s); raise ``ValueError`` where the sizes are out of bounds."""
        if not SMALLEST <= smallest <= largest <= LARGEST:
            raise ValueError(f"page_bytes must lie between {SMALLEST} and {LARGEST}, the smaller first")
        random = Random(seed)  # noqa: S311 - sample data, not secrets
        count = 2_000 + 6 * largest // 200
        self._smallest, self._spread = smallest, largest - smallest + 1
        self._html = _Pool([_html(random) for _ in range(count)])
        self._css = _Pool([_css(random) for _ in range(count)])
        self._script = _Pool([_script(random) for _ in range(count)])
        self._filling = f"{random.getrandbits(16_384):04096x}"

    def page(self, index: int) -> tuple[str, str, str]:
        """Return page ``index``'s script, styles and html, for COPY; every ninth page has no script."""
        bits = mix(index)
        size = self._smallest + bits % self._spread
        scripted = index % 9 > 0
        script, script_bytes = self._script.stretch(bits >> 8, size * 3 // 20 if scripted else 0)
        styles, style_bytes = self._css.stretch(bits >> 16, size // 4)
        head = f"<!doctype html><title>Page {index}</title>"
        left = size - script_bytes - style_bytes - len(head) - len("<!---->")
        body, body_bytes = self._html.stretch(bits >> 24, max(left, 0))
        offset = bits >> 32 & 0x7FF
        filling = self._filling[offset : offset + left - body_bytes]
        return script if scripted else NULL, styles, f"{head}{body}<!--{filling}-->"
