"""A text corpus made by a small grammar: the same bytes everywhere, so scores on it compare."""

from collections.abc import Iterator

from tasks.integers import draws

SIZE = 200_000  # bytes
_SEED = 20_170


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NOUNS = _words(
    "river stone garden winter letter teacher mountain window doctor bridge station village "
    "morning island farmer kitchen market engine forest captain picture corner summer harbor "
    "sister painter candle basket valley singer ladder shadow tailor meadow carpet weaver"
)
_VERBS = _words(
    "follow remember cover answer carry open watch paint repair visit gather measure borrow "
    "welcome notice protect finish deliver mention explain"
)
_ADJECTIVES = _words(
    "old quiet narrow bright heavy distant gentle hollow patient broken golden early simple "
    "careful northern silver"
)
_ADVERBS = _words("slowly often never gladly again quietly soon rarely")
_PREPOSITIONS = _words("near behind beyond under across without toward above")
_LINKS = _words("and but while because until")


def _one(stream: Iterator[int], words: tuple[str, ...]) -> str:
    """A word, the earlier in the list the likelier, as words of a language are."""
    return words[min(next(stream) % len(words), next(stream) % len(words))]


def _chance(stream: Iterator[int], percent: int) -> bool:
    return next(stream) % 100 < percent


def _noun_phrase(stream: Iterator[int]) -> tuple[list[str], bool]:
    """The words and whether they are plural; the article and the verb must agree with that."""
    plural = _chance(stream, 35)
    adjectives = [_one(stream, _ADJECTIVES)] if _chance(stream, 40) else []
    noun = _one(stream, _NOUNS)
    article = "the" if _chance(stream, 60) else ("some" if plural else "every")
    return [article, *adjectives, noun + "s" if plural else noun], plural


def _third_person(verb: str) -> str:
    if verb.endswith("ry"):
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("sh", "ch")) else "s")


def _clause(stream: Iterator[int]) -> list[str]:
    subject, plural = _noun_phrase(stream)
    adverb = [_one(stream, _ADVERBS)] if _chance(stream, 25) else []
    verb = _one(stream, _VERBS)
    if not plural:
        verb = _third_person(verb)
    place = []
    if _chance(stream, 45):
        place = [_one(stream, _PREPOSITIONS), *_noun_phrase(stream)[0]]
    return [*subject, *adverb, verb, *_noun_phrase(stream)[0], *place]


def _sentence(stream: Iterator[int]) -> str:
    words = _clause(stream)
    while _chance(stream, 30):
        comma = words.pop() + ","
        words += [comma, _one(stream, _LINKS), *_clause(stream)]
    text = " ".join(words)
    return text[0].upper() + text[1:] + "."


def generate() -> bytes:
    """The corpus: SIZE ASCII bytes of English-like sentences, a paragraph a line."""
    stream = draws(_SEED)
    text: list[str] = []
    length = 0
    while length < SIZE:
        end = "\n" if _chance(stream, 20) else " "
        text.append(_sentence(stream) + end)
        length += len(text[-1])
    return "".join(text).encode("ascii")[:SIZE]
