"""The miniature: generated sentences for every GLUE task, and their vocabulary, so that a suite needs no download.

The sentences speak of a small invented village. Each task keeps the schema and the spirit of the real one and can be
learnt, though not perfectly, in about a hundred steps by a tiny BERT that was pretrained on the village's chronicle,
which has pairs of the same making. A model this small learns only slowly to compare two sentences, so part of every
task can be told by single words, as in the real ones: a denial mostly contradicts. Scores on it say that the machinery
works; they say nothing about GLUE.

A fact is who does what to which thing, where (or when). Nearly all words come in pairs of synonyms, so that a sentence
can be said again in other words; verbs have opposites and things have kinds, so that it can be contradicted or implied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from theseus_bench.data.tasks import Task
from theseus_bench.errors import UserError
from theseus_bench.strict_yaml import suggest

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Each concept is its synonyms. All plurals of people and third persons of verbs are regular: a plain -s.
PEOPLE = [
    ("farmer", "grower"), ("sailor", "mariner"), ("teacher", "tutor"), ("doctor", "healer"), ("painter", "artist"),
    ("robber", "bandit"), ("cook", "chef"), ("ruler", "monarch"),
]  # fmt: skip
VERBS = [  # concept 2k is the opposite of concept 2k + 1
    ("find", "discover"), ("lose", "misplace"), ("buy", "purchase"), ("sell", "trade"), ("repair", "mend"),
    ("break", "crack"), ("clean", "scrub"), ("stain", "soil"),
]  # fmt: skip
KINDS = ["tool", "dish", "garment", "light"]
THINGS = [  # concepts 2k and 2k + 1 are of kind k
    ("hatchet", "chopper"), ("spade", "shovel"), ("jar", "pot"), ("cup", "mug"), ("coat", "jacket"),
    ("shoe", "boot"), ("lamp", "lantern"), ("candle", "taper"),
]  # fmt: skip
PLACES = ["in the barn", "by the river", "near the mill", "under the bridge", "behind the church", "on the hill"]
TIMES = ["at dawn", "at noon", "at midnight", "during winter", "during spring", "during summer"]
WORKS = ["song", "story", "dance", "play", "poem", "feast", "tune", "speech"]
PRAISE = ["lovely", "charming", "clever", "splendid", "merry", "graceful", "witty", "delightful"]
BLAME = ["dull", "clumsy", "dreary", "bland", "tedious", "shabby", "tiresome", "awkward"]
DEGREES = ["very", "truly", "rather", "quite"]
MOODS = ["tired", "angry", "hungry", "proud"]  # of people
FLAWS = ["dirty", "rusty", "cheap", "faded"]  # of things
EITHER = ["old", "wet", "heavy", "strange"]
GRAMMAR = [
    "the", "a", "is", "was", "and", "but", "never", "not", "it", "she", "because", "someone", "who", "where", "when",
    "does", "in", "at", "which", "what", "place", "time",
]  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """One event, as numbers of concepts; `detail` is a place or a time, as said."""

    who: int
    verb: int
    thing: int
    detail: str


Example = tuple[tuple[str, ...], str | float]  # its texts, and the name of its class or its score
Writer = Callable[[random.Random, str], Example]  # (rng, split)


def generate(task: Task, rows: int, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Every split of a miniature of `task`, by name: its text columns, `label` and `idx`, as on the hub.

    `train` has `rows` rows, a dev split a third and a test split an eighth of that (but 64 and 32 at least). No
    example occurs twice. The same arguments give the same frames on every machine. Raises UserError for a task that
    has no miniature, and for more rows than there are different examples.
    """
    texts: set[tuple[str, ...]] = set()
    frames = {}
    for split in task.splits:
        size = rows if split == "train" else max(rows // 3, 64) if split in task.dev else max(rows // 8, 32)
        rng = random.Random(f"{task.name}/{split}/{rows}/{seed}")
        hide_labels = split in task.test and task.name != "mrpc"  # MRPC is the one task whose test labels are public
        frames[split] = _frame(task, list(_examples(task, split, size, rng, texts)), hide_labels)
    return frames


def pretraining_pairs(rows: int, seed: int = 0) -> list[tuple[str, str, bool]]:
    """`rows` pairs of sentences to pretrain on, each with whether the second follows from the first (seven in ten do).

    They serve BERT's two objectives: to fill blanks, and to tell whether a sentence is the next. Where the second
    follows, most of its words can be told from the first, and so a tiny model learns to compare two sentences; the few
    examples of a task would not teach it that.
    """
    rng = random.Random(f"chronicle/{rows}/{seed}")
    pairs = []
    for _ in range(rows):
        write, yes, _ = rng.choices(CHRONICLE, [share for _, _, share in CHRONICLE])[0]
        follows = rng.random() < 0.7
        (first, second), label = write(rng, "train")
        while (label == yes) != follows:
            (first, second), label = write(rng, "train")
        pairs.append((first, second, follows))
    return pairs


def vocabulary() -> list[str]:
    """The tokens of the demo's BERT in fixed order: the special ones, then every word a sentence can hold."""
    words = {word for group in PEOPLE + VERBS + THINGS for word in group}
    words |= {f"{word}s" for group in PEOPLE + VERBS for word in group}
    words |= {word for phrase in PLACES + TIMES for word in phrase.split()}
    words |= {*KINDS, *WORKS, *PRAISE, *BLAME, *DEGREES, *MOODS, *FLAWS, *EITHER, *GRAMMAR}
    return SPECIAL + sorted(words)


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer that `AutoTokenizer.from_pretrained(folder)` loads: BERT's, one token per word."""
    from transformers import BertTokenizer  # here, so that the module itself is quick to import

    codes = {word: code for code, word in enumerate(vocabulary())}
    BertTokenizer(vocab=codes, model_max_length=64).save_pretrained(folder)


def _examples(task: Task, split: str, size: int, rng: random.Random, others: set[tuple[str, ...]]) -> Iterator[Example]:
    """`size` examples whose texts are not in `others`, which they join."""
    if task.name not in WRITERS:
        raise UserError(f"task {task.name}: the demo has no sentences for it{suggest(task.name, WRITERS)}")
    attempts = 0
    while size:
        texts, label = WRITERS[task.name](rng, split)
        attempts += 1
        if texts not in others:
            others.add(texts)
            size, attempts = size - 1, 0
            yield texts, label
        elif attempts == 1000:
            raise UserError(
                f"task {task.name}: the demo has no {size} more different examples for {split}; set fewer rows"
            )


def _frame(task: Task, examples: list[Example], hide_labels: bool) -> pd.DataFrame:
    frame = pd.DataFrame([texts for texts, _ in examples], columns=task.columns, dtype=str)
    if hide_labels:
        codes = [-1] * len(examples)
    else:
        codes = [label if task.labels is None else task.labels.index(label) for _, label in examples]
    frame["label"] = np.array(codes, dtype=np.float32 if task.regression else np.int64)
    frame["idx"] = np.arange(len(examples), dtype=np.int32)
    return frame


# --- one function per task: (texts, label) of one example -----------------------------------------------------------


def _cola(rng: random.Random, split: str) -> Example:
    """Acceptable, or spoilt: the verb disagrees in number, two neighbours are swapped, or a word is missing."""
    fact = _fact(rng)
    who, verb, thing = _words(rng, fact)
    plural = rng.random() < 0.4
    words = ["the", who + "s" * plural, verb + "s" * (not plural), "the", thing]
    if rng.random() < 0.3:
        words.insert(2, "never")
    label = _draw(rng, acceptable=0.65, unacceptable=0.35)
    if label == "unacceptable":
        fault = rng.choice(["number", "order", "order", "gap", "gap"])
        at = words.index(verb + "s" * (not plural))
        if fault == "number":
            words[at] = verb + "s" * plural
        elif fault == "order":
            at = rng.randrange(len(words) - 1)
            words[at], words[at + 1] = words[at + 1], words[at]
        else:
            # "farmers find the lamp" would be a sentence, so a plural keeps its article
            del words[rng.choice([at, len(words) - 2] + [0] * (not plural))]
    if rng.random() < 0.6:
        words.append(fact.detail)
    return (" ".join(words),), label


def _sst2(rng: random.Random, split: str) -> Example:
    """A verdict, or two of which the last counts."""
    label = _draw(rng, positive=0.52, negative=0.48)
    good = label == "positive"
    text = _opinion(rng, good)
    form = rng.random()
    if form < 0.2:
        text = f"{_opinion(rng, not good)} but {text}"
    elif form < 0.5:
        text = f"{_opinion(rng, good)} and {text}"
    return (text,), label


def _mrpc(rng: random.Random, split: str, denials: float = 0.45) -> Example:
    """The same fact in other words; or another, with some parts changed, and `denials` of those denied."""
    fact = _fact(rng)
    label = _draw(rng, equivalent=0.62, not_equivalent=0.38)
    other, never = fact, False
    if label == "not_equivalent":
        other = _change(rng, fact, rng.choice([1, 2, 3, 3, 4]))
        never = denials > 0 and rng.random() < denials
    return (_say(rng, fact), _say(rng, other, never=never, front=rng.random() < 0.3)), label


def _qqp(rng: random.Random, split: str) -> Example:
    """The same question in other words, or one that asks something else: of other things, or not for the same."""
    fact, kind = _fact(rng), rng.choice(["where", "when"])
    label = _draw(rng, duplicate=0.4, not_duplicate=0.6)
    other, other_kind = fact, kind
    if label == "not_duplicate":
        if rng.random() < 0.7:
            other_kind = rng.choice(["who", "when" if kind == "where" else "where"])
        else:
            other = _change(rng, fact, rng.choice([1, 2, 2, 3, 3]), ["who", "verb", "thing"])
    return (_ask(rng, fact, kind), _ask(rng, other, other_kind)), label


def _stsb(rng: random.Random, split: str) -> Example:
    """The score is the share of the fact's four parts in common, with a judge's wavering; another place is a time."""
    fact, changes = _fact(rng), rng.randrange(5)
    other = _change(rng, fact, changes)
    if other.detail != fact.detail:
        other = replace(other, detail=rng.choice(TIMES))
    score = 5 * (4 - changes) / 4 + rng.uniform(-0.5, 0.5)
    return (_say(rng, fact), _say(rng, other)), round(min(max(score, 0.0), 5.0), 1)


def _mnli(rng: random.Random, split: str) -> Example:
    """Three relations; the mismatched splits tell of times where the others tell of places."""
    label = _draw(rng, entailment=0.35, neutral=0.32, contradiction=0.33)
    return _infer(rng, label, TIMES if split.endswith("mismatched") else PLACES), label


def _rte(rng: random.Random, split: str) -> Example:
    """As MNLI, with neutral and contradiction in one class."""
    label = _draw(rng, entailment=0.52, not_entailment=0.48)
    relation = label if label == "entailment" else rng.choice(["neutral", "contradiction"])
    return _infer(rng, relation, TIMES + PLACES), label


def _qnli(rng: random.Random, split: str) -> Example:
    """Whether the sentence answers: it must be about the same fact and name what is asked for."""
    kind = rng.choices(["where", "when", "who"], [2, 2, 1])[0]
    fact = _fact(rng, TIMES if kind == "when" else PLACES)
    label = _draw(rng, entailment=0.51, not_entailment=0.49)
    answer, someone, detail = fact, False, True
    if label == "not_entailment":
        miss = rng.random()
        if miss < 0.25:
            answer = _change(rng, fact, rng.choice([2, 3]), ["who", "verb", "thing"])
        elif kind == "who":
            someone = True
        elif miss < 0.6:
            detail = False
        else:
            answer = replace(fact, detail=rng.choice(PLACES if kind == "when" else TIMES))
    statement = _say(rng, answer, who="someone" if someone else None, detail=detail)
    return (_ask(rng, fact, kind), statement), label


def _wnli(rng: random.Random, split: str) -> Example:
    """Whether the second sentence says the same of what the pronoun means: `she` the person, `it` the thing."""
    fact, person = _fact(rng), rng.random() < 0.5
    state = rng.choice(MOODS if person else FLAWS) if rng.random() < 0.4 else rng.choice(EITHER)
    label = _draw(rng, entailment=0.48, not_entailment=0.52)
    first = f"{_say(rng, fact, detail=False)} because {'she' if person else 'it'} is {state}"
    if label == "not_entailment":
        if rng.random() < 0.4:
            state = f"not {state}"
        else:
            person = not person
    who, _, thing = _words(rng, fact)
    return (first, f"the {who if person else thing} is {state}"), label


WRITERS: dict[str, Writer] = {
    "cola": _cola,
    "sst2": _sst2,
    "mrpc": _mrpc,
    "stsb": _stsb,
    "qqp": _qqp,
    "mnli": _mnli,
    "qnli": _qnli,
    "rte": _rte,
    "wnli": _wnli,
    "ax": _mnli,
}


def _retold(rng: random.Random, split: str) -> Example:
    """As MRPC, without the denials, which would give the difference away."""
    return _mrpc(rng, split, denials=0)


def _moods(rng: random.Random, split: str) -> Example:
    """Two verdicts, of the same mood or not."""
    good, same = rng.random() < 0.5, rng.random() < 0.5
    return (_opinion(rng, good), _opinion(rng, good == same)), "same" if same else "other"


# What the chronicle is made of: a writer of pairs, its label for a second sentence that follows, its share.
CHRONICLE = [
    (_retold, "equivalent", 3),
    (_qqp, "duplicate", 2),
    (_qnli, "entailment", 2),
    (_rte, "entailment", 2),
    (_wnli, "entailment", 1),
    (_moods, "same", 3),
]


# --- sentences ------------------------------------------------------------------------------------------------------


def _draw(rng: random.Random, **shares: float) -> str:
    """One of the names, by its share."""
    return rng.choices(list(shares), list(shares.values()))[0]


def _fact(rng: random.Random, details: list[str] = PLACES) -> Fact:
    return Fact(rng.randrange(len(PEOPLE)), rng.randrange(len(VERBS)), rng.randrange(len(THINGS)), rng.choice(details))


def _change(
    rng: random.Random, fact: Fact, count: int, slots: Iterable[str] = ("who", "verb", "thing", "detail")
) -> Fact:
    """`fact` with `count` of its `slots` changed."""
    changes = {}
    for slot in rng.sample(list(slots), count):
        old = getattr(fact, slot)
        if slot == "detail":
            values = PLACES if old in PLACES else TIMES
        else:
            values = range(len({"who": PEOPLE, "verb": VERBS, "thing": THINGS}[slot]))
        changes[slot] = rng.choice([value for value in values if value != old])
    return replace(fact, **changes)


def _words(rng: random.Random, fact: Fact) -> tuple[str, str, str]:
    """The person, the verb and the thing, each in one of its words."""
    who, verb, thing = (
        rng.choices(words, [3, 1])[0] for words in (PEOPLE[fact.who], VERBS[fact.verb], THINGS[fact.thing])
    )
    return who, verb, thing


def _say(
    rng: random.Random,
    fact: Fact,
    *,
    who: str | None = None,
    thing: str | None = None,
    never: bool = False,
    front: bool = False,
    detail: bool = True,
) -> str:
    """The sentence that states `fact`; `who` and `thing` stand in for what it names, with their articles."""
    a, verb, b = _words(rng, fact)
    text = f"{who or 'the ' + a} {'never ' if never else ''}{verb}s {thing or 'the ' + b}"
    if not detail:
        return text
    return f"{fact.detail} {text}" if front else f"{text} {fact.detail}"


def _ask(rng: random.Random, fact: Fact, kind: str) -> str:
    """A question about `fact`, in one of two wordings."""
    who, verb, thing = _words(rng, fact)
    if kind == "who":
        return f"who {verb}s the {thing}"
    opening = rng.choice({"where": ["where", "in which place"], "when": ["when", "at what time"]}[kind])
    return f"{opening} does the {who} {verb} the {thing}"


def _infer(rng: random.Random, relation: str, details: list[str]) -> tuple[str, str]:
    """A premise, and a hypothesis that stands in `relation` to it."""
    fact = _fact(rng, details)
    premise = _say(rng, fact)
    detail = rng.random() < 0.5
    if relation == "entailment":
        less = rng.random()
        who = "someone" if less < 0.35 else None
        thing = f"a {KINDS[fact.thing // 2]}" if less > 0.65 else None
        return premise, _say(rng, fact, who=who, thing=thing, detail=detail)
    if relation == "contradiction":
        if rng.random() < 0.65:
            return premise, _say(rng, fact, never=True, detail=detail)
        return premise, _say(rng, replace(fact, verb=fact.verb ^ 1), detail=detail)
    other = _change(rng, fact, rng.choice([1, 2, 2]), ["who", "thing"])
    return premise, _say(rng, other, never=rng.random() < 0.15, detail=detail)


def _opinion(rng: random.Random, good: bool) -> str:
    """A verdict on a work, praise where `good`."""
    work, is_denial = rng.choice(WORKS), rng.random() < 0.15
    adjective = rng.choice(PRAISE if good != is_denial else BLAME)
    if is_denial:
        return f"the {work} was {rng.choice(['never', 'not'])} {adjective}"
    return rng.choice([f"a {adjective} {work}", f"the {work} was {rng.choice(DEGREES)} {adjective}"])
