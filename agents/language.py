"""Language of a text: its script, then its commonest words; offline, a few microseconds, good enough to answer in."""

from __future__ import annotations

import re

_SCRIPTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), language)
    for pattern, language in (
        (r"[\u3040-\u30ff]", "ja"),
        (r"[\uac00-\ud7af]", "ko"),
        (r"[\u4e00-\u9fff]", "zh"),
        (r"[іїєґІЇЄҐ]", "uk"),
        (r"[\u0400-\u04ff]", "ru"),
        (r"[\u0370-\u03ff]", "el"),
        (r"[پچژگ]", "fa"),
        (r"[\u0600-\u06ff]", "ar"),
        (r"[\u0590-\u05ff]", "he"),
        (r"[\u0900-\u097f]", "hi"),
        (r"[\u0e00-\u0e7f]", "th"),
    )
)
_COMMON = {
    "en": "the of and to in is are was were what who when where why how which does do did can you your my i it he she "
    "they this that with for on at from by be have has not an me we there hello hi thanks please about tell",
    "de": "der die das und ist sind war waren wer wie wo wann warum welche welcher ein eine einen nicht mit auf "
    "für von zu den dem des ich du sie es wir ihr kann hat haben wurde werden bitte danke hallo guten im am auch als",
    "fr": "le la les un une des et est sont était qui que quoi quand où pourquoi comment quel quelle quels quelles ne "
    "pas avec pour sur dans du au aux ce cette je tu il elle nous vous ils merci bonjour salut peux avez c'est",
    "es": "el los las una y es son era quién qué cuándo dónde por cómo cuál cuáles no con para sobre del al este esta "
    "yo tú él ella nosotros ustedes gracias hola puede puedes hay está buenos buenas mi su se lo fue",
    "it": "il lo gli una e è sono era chi che cosa quando dove perché come quale quali non con per su nel della del di "
    "questo questa io tu lui lei noi voi grazie ciao puoi può hai ho buongiorno dei mi si fu",
    "pt": "o os as um uma e é são era quem que quando onde porque como qual quais não com para sobre do da dos das no "
    "na este esta eu você ele ela nós obrigado obrigada olá pode está bom foi ao mais",
    "nl": "de het een en is zijn was waren wie wat wanneer waar waarom hoe welke niet met op voor van naar dit dat ik "
    "jij je hij zij wij kan heeft hebben werd dank hallo goedemorgen bedankt er aan ook",
    "sv": "och är var vem vad när varför hur vilken vilket inte med på för av till den det ett en jag du han hon vi "
    "kan har hej tack som",
    "pl": "i jest są był kto co kiedy gdzie dlaczego jak który która nie z na dla od do to ten ja ty on ona my może ma "
    "dzień dobry dziękuję cześć się w",
    "tr": "ve bir bu şu ne kim nerede nasıl neden hangi değil ile için mi mı var yok ben sen o biz merhaba teşekkürler "
    "kaç nedir",
}
COMMON_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
"""The commonest words of some languages: in a question they say nothing of its subject."""
_LANGUAGES: dict[str, tuple[str, ...]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _LANGUAGES[_word] = (*_LANGUAGES.get(_word, ()), _language)
_SIGNS = {"ß": "de", "ñ": "es", "¿": "es", "¡": "es", "ã": "pt", "õ": "pt", "ł": "pl", "ą": "pl", "ę": "pl", "ż": "pl",
          "ğ": "tr", "ı": "tr", "å": "sv", "œ": "fr", "ç": "fr", "ê": "fr"}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NOT_LATIN = re.compile(r"[\u0370-\u0dff\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
READ = 400
"""Characters that are looked at."""


def detect(text: str) -> str:
    """ISO 639-1 code of the language of a text; "en" when nothing tells."""
    text = text[:READ]
    if _NOT_LATIN.search(text):
        foreign = len(_NOT_LATIN.findall(text))
        if foreign * 2 >= sum(map(str.isalpha, text)) - foreign:
            return next((language for script, language in _SCRIPTS if script.search(text)), "en")
    scores: dict[str, float] = {"en": 0.1}
    for word in _WORD.findall(text.lower()):
        languages = _LANGUAGES.get(word, ())
        for language in languages:
            scores[language] = scores.get(language, 0.0) + 1 / len(languages)
    for sign in set(text) & _SIGNS.keys():
        scores[_SIGNS[sign]] = scores.get(_SIGNS[sign], 0.0) + 0.7
    return max(scores, key=lambda language: scores[language])
