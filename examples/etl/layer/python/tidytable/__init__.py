"""Tables as people send them, made tidy: parse a CSV text, clean its rows, aggregate them by a column.

Pure Python and nothing but the standard library: what belongs in a layer.
"""

from tidytable.aggregating import aggregate as aggregate
from tidytable.cleaning import Reject as Reject
from tidytable.cleaning import clean as clean
from tidytable.columns import count as count
from tidytable.columns import day as day
from tidytable.columns import email as email
from tidytable.columns import money as money
from tidytable.columns import text as text
from tidytable.parsing import Row as Row
from tidytable.parsing import parse as parse
