"""Small talk: recognising it by whole phrases in six languages, and replies for when there is no model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, cast

import orjson

Topic = Literal["greeting", "wellbeing", "about", "praise", "thanks", "apology", "goodbye"]
MAX_LENGTH = 100
"""Longer messages say more than a phrase."""

_PHRASES: dict[Topic, str] = {
    "greeting": "hi|hello|hey|hey there|howdy|greetings|good morning|good afternoon|good evening|good day|morning|"
    "hi there|hello there|hello again|hi again|nice to meet you|yo|hallo|guten tag|guten morgen|guten abend|moin|"
    "servus|gruezi|grüezi|hi zusammen|bonjour|salut|bonsoir|coucou|hola|buenos dias|buenos días|buenas tardes|"
    "buenas noches|buenas|ciao|buongiorno|buonasera|salve|olá|ola|bom dia|boa tarde|boa noite|hoi|goedemorgen|"
    "goedendag|hej|cześć|merhaba|привет|здравствуйте|こんにちは|你好|안녕하세요|ping|test",
    "wellbeing": "how are you|how are you doing|how are you doing today|how are you today|how is it going|"
    "how's it going|what's up|whats up|sup|how do you do|are you well|wie geht es dir|wie geht's|wie gehts|"
    "ça va|comment ça va|comment vas-tu|comment allez-vous|cómo estás|como estas|qué tal|que tal|come stai|come va|"
    "como vai|tudo bem|hoe gaat het",
    "about": "who are you|what are you|what is your name|what's your name|whats your name|who made you|who created you|"
    "who built you|what can you do|what can you do for me|what do you do|how can you help|how can you help me|"
    "what can i ask you|what can i ask|what can i do here|how do you work|help|help me|can you help me|"
    "can you help|are you a bot|are you human|are you a human|are you a robot|are you an ai|are you real|"
    "are you a real person|introduce yourself|tell me about yourself|"
    "wer bist du|was bist du|was kannst du|wie heißt du|wer sind sie|was können sie|hilfe|qui es-tu|"
    "qui êtes-vous|que peux-tu faire|que sais-tu faire|comment tu t'appelles|aide|quién eres|quien eres|"
    "qué puedes hacer|que puedes hacer|cómo te llamas|ayuda|chi sei|cosa puoi fare|cosa sai fare|come ti chiami|"
    "quem é você|o que você pode fazer|qual é o seu nome|wie ben je|wat kun je",
    "praise": "great|nice|cool|awesome|perfect|excellent|wonderful|amazing|good job|well done|good|nice one|lol|haha|"
    "that is great|that's great|super|prima|toll|génial|genial|perfecto|perfetto|ottimo|ok|okay|got it|i see|"
    "alright|all right|understood|sounds good|verstanden|alles klar|d'accord|vale|va bene|fine|yes|no|sure|"
    "good answer|great answer|that helps|that helped|very helpful|that was helpful|this is great",
    "thanks": "thanks|thank you|thx|ty|many thanks|cheers|thanks a lot|thank you so much|thank you very much|"
    "thanks a million|much appreciated|danke|danke schön|dankeschön|vielen dank|herzlichen dank|merci|"
    "merci beaucoup|gracias|muchas gracias|mil gracias|grazie|grazie mille|obrigado|obrigada|muito obrigado|"
    "dank je|bedankt|dank u|tack|dziękuję|teşekkürler|спасибо|ありがとう|谢谢|감사합니다|thanks for your help|"
    "thank you for your help|thanks for the help|thank you for the answer",
    "apology": "sorry|i am sorry|i'm sorry|my bad|my mistake|never mind|nevermind|no problem|forget it|"
    "entschuldigung|tut mir leid|schon gut|désolé|pardon|perdón|lo siento|scusa|mi dispiace|desculpe",
    "goodbye": "bye|goodbye|good bye|bye bye|see you|see you later|see you soon|see you tomorrow|good night|cya|"
    "have a nice day|have a good day|take care|farewell|that's all|that is all|tschüss|tschüs|auf wiedersehen|"
    "bis bald|bis später|gute nacht|au revoir|à bientôt|bonne nuit|adiós|adios|hasta luego|hasta mañana|"
    "arrivederci|a presto|tchau|até logo|tot ziens|doei|пока|さようなら|再见",
}
_TOPICS: dict[str, Topic] = {phrase: topic for topic, phrases in _PHRASES.items() for phrase in phrases.split("|")}
_WEIGHT: tuple[Topic, ...] = ("greeting", "praise", "apology", "thanks", "wellbeing", "goodbye", "about")
"""Of several phrases in one message the reply is to the last in this row."""
_PARTS = re.compile(r"[.!?;:,…\n]+\s*|\s+[-–—]+\s+|\s+(?:and|und|et|y|e)\s+")
_SIGNS = re.compile(r"[^\w\s'’-]+")
_FILLERS = re.compile(
    r"\s+(?:parley|there|everyone|all|again|dear|friend|buddy|mate|please|today|so much|very much|a lot|then|now|man|"
    r"bot|team|folks|zusammen|à tous|a todos|a tutti)$|"
    r"^(?:oh|ah|well|so|and|ok|okay|hey|hi|hello|hallo|bonjour|hola|ciao|um|great|dear|please|parley|yes|no|many)\s+"
)


def topic(text: str) -> Topic | None:
    """What kind of small talk a whole message is, or None when any part of it says more.

    A message without a word (a waving hand, "...") counts as a greeting; an empty one is nothing."""
    if len(text) > MAX_LENGTH or not text.strip():
        return None
    found: list[Topic] = []
    for part in _PARTS.split(text.lower()):
        phrase = " ".join(_SIGNS.sub(" ", part).replace("’", "'").split())
        if not phrase or phrase == "parley":
            continue
        known = _TOPICS.get(phrase)
        while known is None:
            shorter = _FILLERS.sub("", phrase, count=1)
            if shorter == phrase:
                return None
            phrase, known = shorter, _TOPICS.get(shorter)
        found.append(known)
    return max(found, key=_WEIGHT.index) if found else "greeting"


def _read() -> dict[tuple[str, str], str]:
    lines = (Path(__file__).parent / "data" / "replies.jsonl").read_bytes().splitlines()
    rows = [cast(dict[str, str], orjson.loads(line)) for line in lines]
    return {(row["kind"], row["language"]): row["text"] for row in rows}


_REPLIES = _read()


def reply(kind: str, language: str) -> str:
    """A prepared text of data/replies.jsonl in a language, in English when there is none in it."""
    return _REPLIES.get((kind, language)) or _REPLIES[kind, "en"]
