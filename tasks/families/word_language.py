"""Word language models: recurrent networks that guess the next word of a text."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import PRNGKeyArray

from tasks.base import Cfg, Data, Task
from tasks.families import dynamics
from tasks.families.cells import CELLS
from tasks.families.language import Network, recurrent_task
from tasks.families.tokens import (
    check_length,
    check_vocabulary,
    check_windows,
    frequent_words,
)
from tasks.names import check_at_least, check_name


@dataclass(frozen=True)
class WordLanguageModel:
    """Next-word prediction over windows of `sequence` words; the loss is in nats a word.

    vocabulary: the number of symbols, 2 to 65,536: the most frequent words and one for all others;
    punctuation marks are words. The rest is as in LanguageModel.
    """

    loss: ClassVar[str] = "cross_entropy"
    cell: str = "vanilla"
    dataset: str = "documentation"
    embed: int = 8
    hidden: int = 24
    sequence: int = 8
    batch_size: int = 16
    vocabulary: int = 200
    trainable_start: bool = False
    initial_scale: tuple[float, float] = (1.0, 1.0)
    name: str = "word_language_model"

    def __post_init__(self):
        check_name("cell", self.cell, CELLS)
        check_windows(self.dataset, self.sequence)
        check_at_least(1, embed=self.embed, hidden=self.hidden, batch_size=self.batch_size)
        check_vocabulary(self.vocabulary, 2**16)
        dynamics.check_bounds(self.initial_scale)

    @property
    def architecture(self) -> str:
        return f"{self.cell} language model"

    @property
    def network(self) -> Network:
        return Network(self.cell, self.vocabulary, self.embed, self.hidden, self.trainable_start)

    def load(self) -> Data:
        data = frequent_words(self.dataset, self.vocabulary)
        check_length(data, self.dataset, self.sequence + 1)
        return data

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale)

    def task(self, cfg: Cfg, data: Data) -> Task:
        return recurrent_task(self.network, cfg, data, self.batch_size, self.sequence)
