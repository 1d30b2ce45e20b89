"""Made-up legacy Lawsker and Pagtive databases, for the demo, the tests and the benchmarks.

``people`` and ``cases`` say how each row of the legacy database is, ``pagtive_source`` those of the source.
"""

from rollout.sample_data.legacy import create_legacy_schema, fill_legacy
from rollout.sample_data.pagtive import create_pagtive_schema, fill_pagtive

__all__ = ["create_legacy_schema", "create_pagtive_schema", "fill_legacy", "fill_pagtive"]
