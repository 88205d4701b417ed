"""Where each dataset comes from: a file for each kind of raw data, and the table of all."""

from tasks.builders import Source
from tasks.sources import reviews, scikit_learn, shapes, text
from tasks.sources.image_files import FILES as FILES

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (reviews.SOURCE, *scikit_learn.SOURCES, shapes.SOURCE, *text.SOURCES)
}
