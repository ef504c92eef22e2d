"""What words mean in prompts, in English, German, French, Spanish and Portuguese, as patterns over lower case without
accents; and the one vocabulary of styles, with the style of the arranger that plays each, for every door.

Where several patterns fit at one place, the longest wins: tables need no order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plagal.music.arranger.styles import STYLES
from plagal.plumbing.errors import ParamsError

_LENT = "lent(?:o|a|e|os|as|s|amente)?"
_RAPID = "rapid(?:o|a|e|os|as|amente)?|vif|vive"
_LANGSAM = "langsam(?:e|er|en|es)?"
_SCHNELL = "schnell(?:e|er|en|es)?"

TEMPO_WORDS: tuple[tuple[float, str], ...] = (
    (48, f"very slow(?:ly)?|largo|grave|sehr {_LANGSAM}|tres {_LENT}|muy {_LENT}|muito {_LENT}|bem {_LENT}"),
    (66, f"slow(?:ly)?|devagar|despacio|pausad[oa]|adagio|gent(?:le|ly)|meditative|prayerful|{_LANGSAM}|{_LENT}"),
    (84, "andante|walking pace|relaxed|laid back|ruhig(?:e|er|en|es)?|gemutlich"),
    (96, "medium(?: tempo)?|mid tempo|moderate(?:ly)?|moderato|modere|moderad[oa]|massig(?:e[rns]?)?|mittelschnell"),
    (126, "up tempo|upbeat|lively|allegro|energetic|driving|lebhaft|flott(?:e[rns]?)?|zugig(?:e[rns]?)?|enleve|"
          "entrainante?|anime|animad[oa]|movid[oa]"),
    (152, f"fast|quick(?:ly)?|vivace|{_SCHNELL}|{_RAPID}"),
    (168, f"very fast|presto|double time|sehr {_SCHNELL}|tres (?:{_RAPID})|muy (?:{_RAPID})|muito (?:{_RAPID})"),
)  # fmt: skip
"""Beats a minute, and what says so."""
BALLAD_TEMPO = 66.0
SHOUT_TEMPO = 152.0
LIVELY = 126.0
"""From here on a tempo word means fast."""
NOT_SO = "(?:not|nicht|pas|no|nao|never)(?: (?:too|so|very|zu|sehr|trop|si|muy|tan|muito|tao|demasiado))?"
"""Before a tempo word it takes the meaning away without giving another."""
NO_TEMPO_AFTER = "(?:hold(?:ing)?|stand(?:ing)?|the|his|her|my|from the|an open) $"
""""Hold fast", "up from the grave": the word is not a tempo there."""

MOOD_WORDS: tuple[tuple[str, str], ...] = (
    ("peaceful", "peaceful|calm[eo]?|tranquil[oa]?|friedlich(?:e[rns]?)?|paisible|pacific[oa]"),
    ("tender", "tender|zart(?:e[rns]?)?|tendre|tiern[oa]|tern[oa]"),
    ("reverent", "reverent[e]?|ehrfurchtig(?:e[rns]?)?"),
    ("joyful", "joyful|happy|glucklich(?:e[rns]?)?|heureu(?:x|se)|feliz|frohlich(?:e[rns]?)?|joyeu(?:x|se)|alegre"),
    ("bright", "bright|strahlend(?:e[rns]?)?|lumineu(?:x|se)|luminos[oa]|brilhante"),
    ("celebratory", "celebratory|triumphant|festlich(?:e[rns]?)?|festiv[oa]"),
    ("mournful", "mournful|sad|klagend(?:e[rns]?)?|traurig(?:e[rns]?)?|triste"),
    ("solemn", "solemn[e]?|feierlich(?:e[rns]?)?|solennel(?:le)?|solene"),
    ("yearning", "yearning|sehnsuchtig(?:e[rns]?)?"),
    ("urgent", "urgent"),
    ("intense", "intense"),
    ("driving", "driving|treibend(?:e[rns]?)?"),
)
"""The moods that training prompts name (`plagal.asking.wording`), with their translations and words that mean
the same; a model knows no others."""

LEVEL_WORDS: tuple[tuple[str, str], ...] = (
    ("beginner", "(?:for |fur |pour |para )?(?:an? )?(?:absolute |complete )?"
                 "(?:beginners?|anfanger|debutante?s?|principiantes?|iniciantes?)(?: level)?"),
    ("easy", "(?:very )?easy(?: level| to play)?|leicht(?:e[rns]?)?|einfach(?:e[rns]?)?|facile?s?"),
    ("intermediate", "intermediate(?: level)?|mittelschwer(?:e[rns]?)?|intermediaire|intermediari?o"),
    ("advanced", "advanced(?: level)?|fortgeschrittene?|virtuos(?:o|e[rns]?)?|avancee?|avan[zc]ad[oa]"),
)  # fmt: skip
"""How difficult to play (`plagal.music.levels`)."""

METRE_WORDS: tuple[tuple[tuple[int, int], str], ...] = (
    (
        (3, 4),
        "(?:slow )?waltz(?: time)?|walzer|vals|valse|valsa|three (?:four|quarter)(?: time)?|dreivierteltakt|"
        "drei viertel|trois (?:quatre|temps)|tres por (?:cuatro|quatro)|tres t(?:iempos|empos)|compas(?:so)? ternario",
    ),
    ((12, 8), "twelve eight|zwolfachteltakt|douze huit|doce por ocho|doze por oito"),
    ((6, 8), "six eight|sechsachteltakt|six huit|seis por ocho|seis por oito"),
    ((9, 8), "nine eight"),
    ((2, 2), "cut time|alla breve"),
    ((4, 4), "common time|four four|viervierteltakt|quatre temps|cuatro por cuatro|quatro por quatro"),
)
COUNTED_IN = {
    "2": (2, 4), "two": (2, 4), "3": (3, 4), "three": (3, 4), "4": (4, 4), "four": (4, 4), "5": (5, 4), "five": (5, 4),
    "6": (6, 8), "six": (6, 8), "9": (9, 8), "nine": (9, 8), "12": (12, 8), "twelve": (12, 8),
}  # fmt: skip
""""Something in 3"."""

FEEL_WORDS = (
    ("straight", "straight(?: (?:eighths?|8ths?|feel))?|(?:no|without|ohne|sans|sin|sem) swing|gerade achtel|binaire"),
    ("half-time", "half time(?: feel)?"),
    ("shuffle", "shuffle(?: feel)?"),
    ("swing", "swing(?:ing)?(?: feel| it)?|swung|ternaire|suingad[oa]"),
)
MODULATE = "modul\\w+|key change|change(?: the)? key|go(?:es)? up|move up|raise|sub(?:ir|e|a)|sobe|montez?|hoch"
UP = "up|higher|hoher|hoch|nach oben|plus haut|vers le haut|acima|arriba|para cima|hacia arriba"
STEPS_UP = (
    "half(?: ?step| ?tone)|semi ?tone|halb(?:en )?ton|medio tono|semitono|meio tom|semitom|demi ton",
    "(?:whole|full) ?(?:step|tone)|ganz(?:en )?ton|tono entero|tono|tom|ton entier|ton",
)
SEMITONES = "(?:semitones|half steps|halbtone|demi tons|semitonos|semitons)"

BARS = "bars?|measures?|takten?|takte|mesures?|compases|compassos"
SECTIONS = (
    "intro(?:duction)?|verse|chorus|bridge|outro|ending|vamp|tag|turnaround|strophe|refrain|couplet|estrofa|estribillo|"
    "refrao|ponte"
)
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "sixteen": 16, "twenty": 20, "twenty four": 24, "thirty two": 32, "sixty four": 64,
    "zwei": 2, "vier": 4, "sechs": 6, "acht": 8, "zwolf": 12, "sechzehn": 16, "vierundzwanzig": 24,
    "zweiunddreissig": 32, "quatre": 4, "huit": 8, "douze": 12, "seize": 16, "trente deux": 32, "cuatro": 4, "ocho": 8,
    "doce": 12, "dieciseis": 16, "quatro": 4, "oito": 8, "doze": 12, "dezesseis": 16,
}  # fmt: skip

ABOUT = "around|about|roughly|circa|ca|etwa|ungefahr|environ|vers|unos|alrededor de|cerca de|por volta de"
BEATS_A_MINUTE = (
    "bpm|b\\.p\\.m\\.?|ppm|beats? (?:per|a) minute|quarters? a minute|schlage pro minute|battements par minute|"
    "pulsaciones por minuto|pulsos por minuto|batidas por minuto"
)
NOTE_VALUES = (
    (1.5, "dotted (?:quarter|crotchet)s?(?: notes?)?|punktierte viertel|noire pointee|negra con puntillo|"
          "seminima pontuada|q\\.|\u2669\\."),
    (1.0, "quarters?(?: notes?)?|crotchets?|viertel|noire|negra|seminima|q|\u2669"),
    (2.0, "half(?: notes?)?|minims?|halbe|blanche|blanca|minima"),
    (0.5, "eighths?(?: notes?)?|achtel|croche|corchea|colcheia"),
)  # fmt: skip
"""Quarters, and how the note value is written before "= 72"."""

MODES = {
    "major": False, "maj": False, "dur": False, "majeur": False, "mayor": False, "maior": False, "ionian": False,
    "minor": True, "min": True, "m": True, "moll": True, "mineur": True, "menor": True, "aeolian": True,
    "dorian": True, "phrygian": True, "locrian": True, "lydian": False, "mixolydian": False,
}  # fmt: skip
"""Mode -> minor. Of church modes only the third is kept, and that is said."""
CHURCH_MODES = ("dorian", "phrygian", "locrian", "lydian", "mixolydian")
GERMAN_TONICS = {
    "ces": "Cb", "c": "C", "cis": "C#", "des": "Db", "d": "D", "dis": "D#", "es": "Eb", "e": "E", "eis": "E#",
    "fes": "Fb", "f": "F", "fis": "F#", "ges": "Gb", "g": "G", "gis": "G#", "as": "Ab", "a": "A", "ais": "A#",
    "b": "Bb", "h": "B", "his": "B#",
}  # fmt: skip
ROMANCE_TONICS = {"do": "C", "ut": "C", "re": "D", "mi": "E", "fa": "F", "sol": "G", "la": "A", "si": "B"}
ACCIDENTALS = {
    "b": "b", "flat": "b", "bemol": "b", "#": "#", "sharp": "#", "sostenido": "#", "sustenido": "#", "diese": "#",
}  # fmt: skip
GERMAN = (
    "dur|moll|takte?n?|langsam\\w*|schnell\\w*|mit|und|fur|eine?[nrms]?|lobpreis|klavier|spiele?|kirchenlied|tonart"
)
"""Words by which a prompt is German: there, B is B flat."""

CHORDS_FOLLOW = (
    "chords?|over|progression|changes|with|akkorde?n?|akkordfolge|uber|mit|accords?|acordes?|progresion|progressao"
    "|sobre"
)
CHANGES = "\\b(?:to|then|into|from|between|modulat\\w*|changes?|dann|nach|puis|luego|depois|switch\\w*|and|und|bis)\\b"
"""Words after which two keys, tempos or metres are no contradiction."""

_FILLERS = """
    a an the of in at on for to and or with by as over is it its be me my us we you i im am your some something any this
    that please just like want need would could can will do does let lets hear show give get make play write generate
    compose create improvise sound sounds how what about into from under through there here now today time tempo key
    meter metre bpm tune song songs piece pieces music musical piano keys keyboard solo instrumental accompaniment track
    style styled version arrangement arranged feel vibe genre mood title backing long length signature beat
    beats tempos bar bars measure measures one two no lyrics performance realistic target original acoustic simple nice
    good great beautiful little bit transpose transposed form loop kind sort type start starts starting begins begin
    beginning progression chord turn harmonise harmonize around between ca roughly approximately then so mainly mostly
    using use featuring sing hi hello hey thanks ok okay

    der die das den dem des ein eine einen einer eines einem und oder mit im am an auf zu zum zur von fur bei als mir
    mich uns bitte spiel spiele spielen schreibe mach mache ich wir hatte gern gerne hatten mochte will es etwas stuck
    kannst konntest gib gebt du
    lied klavier klavierstuck musik takt takte takten tonart stil begleitung art uber

    le la les l un une du de d et ou en dans au aux avec pour sur sans je nous joue jouer joues jouez ecris faire fais
    moi quelque chose peux s il te vous plait svp morceau chant chanson clavier tonalite ton mesure mesures

    el los las lo uno una unos del y o u con para por sobre sin quiero puedes toca tocame tocar haz escribe algo
    cancion musica teclado tono tonalidad estilo compas compases ritmo favor

    os um uma uns da do dos das na nos nas e ou com em sem quero toque escreva faca peca tom tonalidade compasso
    compassos andamento introducao
"""
FILLERS = frozenset(_FILLERS.split()) - {"no", "up", "only"}
"""Words that a prompt is put together with: nothing is lost where they are passed over."""


@dataclass(frozen=True, slots=True)
class StyleName:
    """`arranger`: the arranger's style that is it or is nearest. `words`: patterns of plain text, lower case, accents
    left out, spaces standing for spaces or hyphens. `rank`: 0 for a style of its own, 1 for a word that another style
    makes more precise ("gospel" in "gospel blues"), 2 for one that only leans to it ("ballad")."""

    name: str
    arranger: str
    words: tuple[str, ...]
    rank: int = 0


STYLES_BY_NAME = {
    style.name: style
    for style in (
        StyleName("gospel_jazz", "gospel_jazz", ("gospel jazz", "jazz(?:y|ige[ns]?)? gospel", "gospel jazz(?:y|ig)?")),
        StyleName("contemporary_gospel", "contemporary_gospel", (
            "(?:contemporary|modern|urban) gospel", "gospel (?:contemporaneo|contemporain|moderno|moderne|urbano)",
            "(?:zeitgenossische[rns]?|moderne[rns]?) gospel",
        )),
        StyleName("traditional_gospel", "traditional_gospel", (
            "trad(?:itional)? (?:black )?gospel", "old school gospel", "gospel hymns?", "choir gospel", "gospel choir",
            "spirituals?", "traditionelle[rns]? gospel", "gospel tradicional", "gospel traditionnel", "gospelchor",
        )),
        StyleName("hymnal", "hymnal", (
            "(?:traditional )?hymns?", "hymnals?", "four part", "kirchenlied(?:er)?", "vierstimmig(?:e[rns]?)?",
            "cantiques?", "hymnes?", "himnos?", "hinos?",
        )),
        StyleName("worship", "worship", (
            "(?:contemporary |modern )?(?:praise and |praise & )?worship", "praise ballads?", "devotional", "lobpreis",
            "anbetung", "louange", "adoration", "adoracion", "adoracao", "louvor",
        )),
        StyleName("neo_soul", "neo_soul", ("neo ?soul", "r ?& ?b", "r ?'?n'? ?b", "soul")),
        StyleName("quartet", "quartet", ()),
        StyleName("shout", "shout", ("(?:gospel )?shout(?: music)?", "(?:gospel )?praise breaks?")),
        StyleName("chorale", "hymnal", ("chorales?", "choral", "bach")),
        StyleName("ragtime", "jazz", ("rag ?time", "rag")),
        StyleName("jazz", "jazz", ("(?:traditional )?jazzy?", "swing jazz", "bebop"), 0),
        StyleName("blues", "blues", ("(?:traditional )?blues(?:y)?",)),
        StyleName("classical", "hymnal", ("classical", "klassisch(?:e[rns]?)?", "classique", "class?ic[oa]")),
        StyleName("folk", "traditional_gospel", ("folk", "fiddle", "reel", "jig", "hornpipe")),
        StyleName("gospel", "traditional_gospel", (
            "(?:black )?gospel", "church", "praise", "alabanza",
        ), 1),
    )
}  # fmt: skip
"""By canonical name; the first that matches at the lowest rank wins."""

_LEANING = (
    ("jazz", "swing"), ("quartet", "quartet"), ("traditional_gospel", "choir|chor|choeur|coro|coral"),
    ("contemporary_gospel", "contemporary|contemporaneo|contemporain"), ("traditional_gospel", "trad(?:itional)?"),
    ("shout", "cogic"), ("worship", "(?:klavier|pop)?ballade?n?|baladas?|ballads?"),
)  # fmt: skip
"""Words that lean to a style where no other is named."""
UNSURE = frozenset({"quartet", "cogic"})
"""Of these words only the nearest style is known: that is said beside it."""

STYLE_NAMES = tuple(STYLES_BY_NAME)


_GERMAN_PIECE = "stuck|ballade|song|lied|musik"
"""What a style makes one word with: Bluesstück, Gospelballade."""


def _pattern(words: str) -> re.Pattern[str]:
    spaced = words.replace(" ", "[ -]+").replace("[ -]+?", "[ -]?")
    return re.compile(rf"(?<!\w){spaced}(?:{_GERMAN_PIECE})?(?!\w)")


_PATTERNS = tuple(
    (style.rank, style.name, _pattern(f"(?:{words})")) for style in STYLES_BY_NAME.values() for words in style.words
) + tuple((2, name, _pattern(f"(?:{words})")) for name, words in _LEANING)  # fmt: skip


def find_styles(plain: str) -> list[tuple[str, int, int, int]]:
    """(name, rank, start, end) of every style word of a text (lower case, no accents), the longest at each place."""
    hits = [(name, rank, *match.span()) for rank, name, pattern in _PATTERNS for match in pattern.finditer(plain)]
    hits.sort(key=lambda hit: (hit[2] - hit[3], hit[1]))
    kept: list[tuple[str, int, int, int]] = []
    for hit in hits:
        if all(hit[3] <= other[2] or hit[2] >= other[3] for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda hit: hit[2])


def style_named(text: str) -> str | None:
    """The canonical style that a name or a whole prompt means ("Jazz-Gospel", "gospel_jazz"), None where none."""
    hits = find_styles(text.lower().replace("_", " ").strip())
    return choose(hits)


def choose(hits: list[tuple[str, int, int, int]]) -> str | None:
    """One style of those found: gospel with jazz is gospel jazz; else the lowest rank, the first of them."""
    names = {name for name, _, _, _ in hits}
    if "jazz" in names and names & {"gospel", "traditional_gospel", "contemporary_gospel"}:
        return "gospel_jazz"
    return min(hits, key=lambda hit: hit[1])[0] if hits else None


def known_arranger_style(text: str) -> str:
    """The arranger's style that a name in any spelling means. Raises ParamsError, naming those there are."""
    plain = "_".join(re.findall(r"[\w&]+", text.lower()))
    if plain in STYLES:
        return plain
    named = style_named(text)
    if named is None:
        raise ParamsError(f"style {text!r} is not known; choose one of {', '.join(STYLE_NAMES)}")
    return arranger_style(named)


def arranger_style(style: str | None) -> str:
    """The arranger's style that plays a canonical one; traditional gospel where none is named."""
    return STYLES_BY_NAME[style].arranger if style in STYLES_BY_NAME else "traditional_gospel"
