"""What the import hook of conftest.py puts around every function and dataclass of the packages."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is asked for
